#pragma once

#include <algorithm>
#include <array>
#include <span>

#include "protocols/metrics/metric_row.hpp"
#include "protocols/serve/routes.hpp"

/// What the ranks of `serve` count. Numbers are append-only.
namespace troupe::protocols::serve_metric {

// the front's
inline constexpr metric_number requests_running{32};
inline constexpr metric_number requests_waiting{33};
inline constexpr metric_number prompt_tokens{34};
inline constexpr metric_number generation_tokens{35};
inline constexpr metric_number ended_by_stop{36};
inline constexpr metric_number ended_by_length{37};
inline constexpr metric_number ended_by_client{38};
inline constexpr metric_number ended_by_fault{39};
inline constexpr metric_number time_to_first_token{40};
inline constexpr metric_number inter_token{41};
inline constexpr metric_number request_time{42};
inline constexpr metric_number queue_time{43};
inline constexpr metric_number prefill_time{44};
inline constexpr metric_number decode_time{45};
inline constexpr metric_number inference_time{46};
inline constexpr metric_number prompt_length{47};
inline constexpr metric_number generation_length{48};
inline constexpr metric_number requests_refused{49};
// of cells
inline constexpr metric_number kv_usage{50}; ///< in millionths
inline constexpr metric_number encode_busy{51};
inline constexpr metric_number prefill_busy{52};
inline constexpr metric_number decode_busy{53};
inline constexpr metric_number encode_steps{54};
inline constexpr metric_number prefill_steps{55};
inline constexpr metric_number decode_steps{56};

namespace detail {

namespace at = stations;

inline constexpr double nanoseconds = 1e-9;
inline constexpr double millionths = 1e-6;
inline constexpr std::uint64_t ms = 1'000'000;

// vLLM's bounds; below its 10 ms between tokens three more, where small models are.
inline constexpr std::array<std::uint64_t, 22> first_token_bounds{
    1 * ms,      5 * ms,      10 * ms,     20 * ms,      40 * ms,      60 * ms,       80 * ms,   100 * ms,
    250 * ms,    500 * ms,    750 * ms,    1000 * ms,    2500 * ms,    5000 * ms,     7500 * ms, 10'000 * ms,
    20'000 * ms, 40'000 * ms, 80'000 * ms, 160'000 * ms, 640'000 * ms, 2'560'000 * ms};
inline constexpr std::array<std::uint64_t, 22> inter_token_bounds{
    1 * ms,    ms * 5 / 2, 5 * ms,      10 * ms,     25 * ms,     50 * ms,    75 * ms,   100 * ms,
    150 * ms,  200 * ms,   300 * ms,    400 * ms,    500 * ms,    750 * ms,   1000 * ms, 2500 * ms,
    5000 * ms, 7500 * ms,  10'000 * ms, 20'000 * ms, 40'000 * ms, 80'000 * ms};
inline constexpr std::array<std::uint64_t, 21> request_bounds{
    300 * ms,    500 * ms,     800 * ms,     1000 * ms,    1500 * ms,    2000 * ms,      2500 * ms,
    5000 * ms,   10'000 * ms,  15'000 * ms,  20'000 * ms,  30'000 * ms,  40'000 * ms,    50'000 * ms,
    60'000 * ms, 120'000 * ms, 240'000 * ms, 480'000 * ms, 960'000 * ms, 1'920'000 * ms, 7'680'000 * ms};
inline constexpr std::array<std::uint64_t, 16> length_bounds{1,   2,    5,    10,   20,     50,     100,    200,
                                                             500, 1000, 2000, 5000, 10'000, 20'000, 50'000, 100'000};

constexpr metric_row requests_ended(metric_number number, std::string_view reason) noexcept {
  return {.number = number,
          .name = "request_success_total",
          .help = "Requests that have ended, by how.",
          .counted_at = at::front,
          .known = true,
          .label_name = "finished_reason",
          .label_value = reason};
}

constexpr metric_row seconds(metric_number number, std::string_view name, std::string_view help,
                             std::span<const std::uint64_t> bounds, std::string_view older = {}) noexcept {
  return {.number = number,
          .kind = metric_kind::histogram,
          .name = name,
          .help = help,
          .counted_at = at::front,
          .known = true,
          .older = older,
          .unit = nanoseconds,
          .bounds = bounds};
}

constexpr metric_row lengths(metric_number number, std::string_view name, std::string_view help) noexcept {
  return {.number = number,
          .kind = metric_kind::histogram,
          .name = name,
          .help = help,
          .counted_at = at::front,
          .known = true,
          .bounds = length_bounds};
}

constexpr metric_row busy(metric_number number, std::string_view name, const station& where) noexcept {
  return {.number = number,
          .name = name,
          .help = "Time that the rank's executor has spent in steps.",
          .counted_at = where,
          .unit = nanoseconds};
}

constexpr metric_row steps(metric_number number, std::string_view name, const station& where) noexcept {
  return {.number = number, .name = name, .help = "Steps that the rank's executor has run.", .counted_at = where};
}

} // namespace detail

inline constexpr std::array rows{
    metric_row{.number = requests_running,
               .kind = metric_kind::gauge,
               .name = "num_requests_running",
               .help = "Requests that cells work on.",
               .counted_at = stations::front,
               .known = true},
    metric_row{.number = requests_waiting,
               .kind = metric_kind::gauge,
               .name = "num_requests_waiting",
               .help = "Requests that are being read or wait for memory of cells.",
               .counted_at = stations::front,
               .known = true},
    metric_row{.number = prompt_tokens,
               .name = "prompt_tokens_total",
               .help = "Tokens of prompts that have been computed.",
               .counted_at = stations::front,
               .known = true},
    metric_row{.number = generation_tokens,
               .name = "generation_tokens_total",
               .help = "Tokens of answers.",
               .counted_at = stations::front,
               .known = true},
    detail::requests_ended(ended_by_stop, "stop"),
    detail::requests_ended(ended_by_length, "length"),
    detail::requests_ended(ended_by_client, "abort"),
    detail::requests_ended(ended_by_fault, "error"),
    detail::seconds(time_to_first_token, "time_to_first_token_seconds",
                    "From a question's first frame to its first token.", detail::first_token_bounds),
    detail::seconds(inter_token, "inter_token_latency_seconds", "From one token of an answer to the next.",
                    detail::inter_token_bounds, "time_per_output_token_seconds"),
    detail::seconds(request_time, "e2e_request_latency_seconds",
                    "From a question's first frame to the end of its answer.", detail::request_bounds),
    detail::seconds(queue_time, "request_queue_time_seconds", "From a question's first frame to its start in cells.",
                    detail::request_bounds),
    detail::seconds(prefill_time, "request_prefill_time_seconds", "From a request's start in cells to its first token.",
                    detail::request_bounds),
    detail::seconds(decode_time, "request_decode_time_seconds", "From a request's first token to its last.",
                    detail::request_bounds),
    detail::seconds(inference_time, "request_inference_time_seconds", "From a request's start in cells to its end.",
                    detail::request_bounds),
    detail::lengths(prompt_length, "request_prompt_tokens", "Tokens of a request's prompt."),
    detail::lengths(generation_length, "request_generation_tokens", "Tokens of a request's answer."),
    metric_row{.number = requests_refused,
               .name = "requests_refused_total",
               .help = "Questions that were not taken.",
               .counted_at = stations::front},
    metric_row{.number = kv_usage,
               .kind = metric_kind::gauge,
               .name = "kv_cache_usage_perc",
               .help = "Part of a decode cell's KV blocks that requests hold; 1 is all.",
               .counted_at = stations::decode_leader,
               .known = true,
               .older = "gpu_cache_usage_perc",
               .unit = detail::millionths},
    detail::busy(encode_busy, "encode_busy_seconds_total", stations::encode_rank),
    detail::busy(prefill_busy, "prefill_busy_seconds_total", stations::prefill_rank),
    detail::busy(decode_busy, "decode_busy_seconds_total", stations::decode_rank),
    detail::steps(encode_steps, "encode_steps_total", stations::encode_rank),
    detail::steps(prefill_steps, "prefill_steps_total", stations::prefill_rank),
    detail::steps(decode_steps, "decode_steps_total", stations::decode_rank),
};
static_assert(std::ranges::is_sorted(rows, {}, &metric_row::number));
static_assert(rows.front().number == program_metric_first && rows.back().number.value < metrics_max);

} // namespace troupe::protocols::serve_metric
