#include "gpu/cuda/peer_collectives.hpp"

#include <algorithm>
#include <chrono>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "gpu/cuda/cuda_stream.hpp"
#include "gpu/cuda/ipc_memory.hpp"
#include "gpu/cuda/peer_sums.hpp"
#include "gpu/cuda/weight_stream.hpp"
#include "protocols/limits.hpp"
#include "runtime/base/clock.hpp"

namespace troupe::gpu::cuda {

using fabric::device_handle;
using fabric::device_region;
using protocols::fail;
using protocols::fault;
using protocols::result;
using protocols::time_point;
namespace limits = protocols::limits;

namespace {

std::uint64_t ns_of(protocols::duration length) {
  return static_cast<std::uint64_t>(
      std::max<std::int64_t>(0, std::chrono::duration_cast<std::chrono::nanoseconds>(length).count()));
}

class peer_collectives final : public device_collectives {
public:
  struct parts {
    std::vector<std::unique_ptr<device_region>> inboxes; ///< by member, this rank's own among them
    std::unique_ptr<cuda_buffer> state;
    std::unique_ptr<cuda_buffer> nothing; ///< a number that nobody reads
    std::shared_ptr<buffer> report;
    peer_member seat;
    std::string hindrance; ///< empty: every member reaches every inbox
  };

  peer_collectives(parts made_of, std::unique_ptr<device_collectives> larger)
      : parts_(std::move(made_of)), larger_(std::move(larger)),
        report_(parts_.report, reinterpret_cast<peer_report*>(parts_.report->data())),
        part_bytes_max_(parts_.hindrance.empty() ? limits::peer_part_bytes_max : 0) {}

  bool capturable() const noexcept override { return true; }
  std::string form() const override {
    if (!parts_.hindrance.empty())
      return larger_->form() + " alone: " + parts_.hindrance;
    return "own kernels up to " + std::to_string(part_bytes_max_ / 1024) + " KiB a member, " + larger_->form() +
           " above it";
  }
  std::uint32_t awaited() const noexcept override {
    return *const_cast<const volatile std::uint32_t*>(&report_->missing);
  }

  result<void> settle(time_point deadline) override { return larger_->settle(deadline); }
  void begin_step() noexcept override { knocked_ = false; }

  result<void> all_reduce_sum(stream& on, const tensor_view& values, time_point deadline) override {
    if (values.bytes() > part_bytes_max_)
      return library(on, deadline).all_reduce_sum(on, values, deadline);
    sum(on, values, nullptr, deadline);
    return {};
  }

  result<void> all_reduce_add(stream& on, const tensor_view& values, const tensor_view& to,
                              time_point deadline) override {
    if (values.bytes() > part_bytes_max_)
      return library(on, deadline).all_reduce_add(on, values, to, deadline);
    sum(on, values, to.f32(), deadline);
    return {};
  }

  /// Products of few rows in bf16 exchange their parts themselves, block by block.
  result<void> add_product(const operations& run, stream& on, const partial_product& part, const tensor_view& to,
                           time_point deadline) override {
    const auto& device = static_cast<cuda_stream&>(on).on();
    const peer_call with = call_until(deadline);
    const few_rows_product product{
        .x = part.x, .weight = part.weight, .bias = part.bias, .out = to, .end = product_end::add, .peers = &with};
    if (to.bytes() > part_bytes_max_ || !fits_weight_stream(part.x, part.weight, to) ||
        !fits_peers(product, device.multiprocessors))
      return device_collectives::add_product(run, on, part, to, deadline);
    enqueue(on, "add_product",
            [&](cudaStream_t queue) { return stream_weights(queue, product, device.multiprocessors); });
    return {};
  }

  result<void> all_gather(stream& on, const tensor_view& mine, const tensor_view& all, time_point deadline) override {
    if (mine.bytes() > part_bytes_max_)
      return library(on, deadline).all_gather(on, mine, all, deadline);
    enqueue(on, "gather_from_peers",
            [&](cudaStream_t queue) { return gather_from_peers(queue, call_until(deadline), mine, all); });
    return {};
  }

  result<void> send(stream& on, const tensor_view& values, std::uint32_t to, time_point deadline) override {
    return larger_->send(on, values, to, deadline);
  }
  result<void> receive(stream& on, const tensor_view& values, std::uint32_t from, time_point deadline) override {
    return larger_->receive(on, values, from, deadline);
  }

private:
  /// NCCL does not say whom it waits for. So the first time in a step all members meet before it, in a sum of nothing
  /// that does: 2 us.
  device_collectives& library(stream& on, time_point deadline) {
    if (parts_.hindrance.empty() && !std::exchange(knocked_, true))
      sum(on, {parts_.nothing->data(), element_kind::f32, device_kind::cuda, {1}}, nullptr, deadline);
    return *larger_;
  }
  peer_call call_until(time_point deadline) const {
    return {.seat = parts_.seat,
            .patience = {.told_ns = ns_of(limits::peer_wait_told),
                         .longest_ns = ns_of(deadline - base::now() + limits::peer_wait_margin)}};
  }
  void sum(stream& on, const tensor_view& values, float* add_to, time_point deadline) {
    const bool whole = parts_.seat.members == 2 || values.bytes() <= limits::peer_sum_whole_bytes_max;
    enqueue(on, "sum_with_peers", [&](cudaStream_t queue) {
      return sum_with_peers(queue, call_until(deadline), whole ? peer_way::whole : peer_way::shares, values.f32(),
                            add_to, static_cast<std::uint32_t>(values.elements()));
    });
  }
  template <class Body>
  void enqueue(stream& on, const char* call, const Body& body) {
    auto& queue = static_cast<cuda_stream&>(on);
    queue.watch(report_);
    queue.enqueue(call, body);
  }

  parts parts_;
  std::unique_ptr<device_collectives> larger_;
  std::shared_ptr<const peer_report> report_;
  std::size_t part_bytes_max_;
  bool knocked_ = false; ///< in this step
};

/// This rank's own memory for a group.
result<peer_collectives::parts> make_parts(const device& on, fabric::device_memory& memory, const group_member& seat,
                                           std::size_t inbox_bytes) {
  peer_collectives::parts made;
  auto report = shared_buffer::make(on, sizeof(peer_report));
  if (!report)
    return tl::unexpected(report.error());
  made.report = *std::move(report);
  auto state = cuda_buffer::make(on, peer_state_words * sizeof(std::uint32_t));
  if (!state)
    return tl::unexpected(state.error());
  made.state = *std::move(state);
  auto nothing = cuda_buffer::make(on, sizeof(float));
  if (!nothing)
    return tl::unexpected(nothing.error());
  made.nothing = *std::move(nothing);
  const auto first = peer_state_at_first();
  auto error = cudaMemcpy(made.state->data(), first.data(), sizeof first, cudaMemcpyHostToDevice);
  if (error == cudaSuccess)
    error = cudaMemset(made.nothing->data(), 0, sizeof(float));
  made.inboxes.resize(seat.size);
  if (seat.size > peer_members_max)
    made.hindrance = std::to_string(seat.size) + " members";
  else if (auto inbox = memory.make(inbox_bytes); !inbox)
    made.hindrance = inbox.error().what;
  else
    made.inboxes[seat.self] = *std::move(inbox);
  if (error == cudaSuccess)
    error = cudaDeviceSynchronize(); // an inbox is of zeros when the first of the others writes to it
  if (error != cudaSuccess)
    return fail(fault::executor_failed, words_of(error, "the memory of a group"));
  made.seat = {.state = reinterpret_cast<std::uint32_t*>(made.state->data()),
               .report = reinterpret_cast<peer_report*>(made.report->data()),
               .self = seat.self,
               .members = seat.size,
               .row_items = peer_row_items(limits::peer_part_bytes_max)};
  return made;
}

/// What a member offers the others.
struct door {
  device_handle inbox{};
  bool open = false;
};

} // namespace

result<std::unique_ptr<device_collectives>> join_peers(const device& on, const group_member& seat,
                                                       std::unique_ptr<device_collectives> larger) {
  const std::size_t bytes = peer_inbox_bytes(seat.size, limits::peer_part_bytes_max);
  const auto memory = make_ipc_memory(static_cast<unsigned>(on.number));
  if (!memory)
    return tl::unexpected(memory.error());
  auto made = make_parts(on, **memory, seat, bytes);
  if (!made)
    return tl::unexpected(made.error());

  door mine;
  if (const auto& inbox = made->inboxes[seat.self])
    mine = {.inbox = inbox->handle(), .open = true};
  const auto doors = exchange(seat, mine);
  if (!doors)
    return tl::unexpected(doors.error());
  for (std::uint32_t member = 0; member < seat.size && made->hindrance.empty(); ++member) {
    if (!(*doors)[member].open) {
      made->hindrance = "member " + std::to_string(member) + " has no memory for it";
    } else if (member != seat.self) {
      auto opened = (*memory)->open((*doors)[member].inbox, bytes);
      if (opened && (*opened)->reach() == fabric::device_reach::direct)
        made->inboxes[member] = *std::move(opened);
      else if (opened)
        made->hindrance = "the memory of member " + std::to_string(member) + " is out of reach";
      else
        made->hindrance = "the memory of member " + std::to_string(member) + " is out of reach, " + opened.error().what;
    }
    if (made->hindrance.empty())
      made->seat.inbox[member] = made->inboxes[member]->bytes().data();
  }
  cudaGetLastError(); // what could not be opened is answered here

  // All of them go the same way.
  const auto reached = exchange(seat, static_cast<std::uint8_t>(made->hindrance.empty()));
  if (!reached)
    return tl::unexpected(reached.error());
  const auto lost = std::ranges::find(*reached, 0) - reached->begin();
  if (made->hindrance.empty() && lost < std::ssize(*reached))
    made->hindrance = "member " + std::to_string(lost) + " does not reach all memory";
  return std::make_unique<peer_collectives>(*std::move(made), std::move(larger));
}

} // namespace troupe::gpu::cuda
