#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

/// Every bound of the wire and of the machines that is not a setting of the spec, in one place.
/// What a user may change stands in `cluster_spec`; the relations between the two are checked when a spec is read.
namespace troupe::protocols::limits {

inline constexpr std::size_t frame_header_bytes = 64;
/// Before a peer has shown the job's token nobody may make us hold more than this.
inline constexpr std::size_t unauthenticated_frame_bytes_max = 64 * 1024;
inline constexpr std::size_t frame_bytes_max_default = 1024 * 1024;
inline constexpr std::size_t frame_bytes_max_highest = 64 * 1024 * 1024;

inline constexpr std::uint32_t ranks_max = 4096;
inline constexpr std::uint32_t pictures_per_request_max = 16;
inline constexpr std::uint32_t groups_max = 4096;
/// Connections of the front's socket, fewer where the process may open few files; the next one is refused with
/// `fault::queue_full`. Each may make the front hold four frames and `client_frames_max` more.
inline constexpr std::size_t clients_max = 256;
/// Frames of one client that the front has not worked off; its socket is not read meanwhile.
inline constexpr std::size_t client_frames_max = 4;
/// Answers that wait for one client; one that reads nothing for so long is let go.
inline constexpr std::size_t client_queue_bytes_max = 8u * 1024 * 1024;
/// From a frame's first bytes on a client's connection to its last, while the front reads it: what a socket does not
/// take at once, a client sends with its next call.
inline constexpr std::chrono::milliseconds client_frame_deadline{10'000};
/// Picture files that one client sends, and decoded pictures of it until their answer's first token; at least a single
/// picture of `limits.picture_bytes_max`. Of all clients together: `clients_share` times as much.
inline constexpr std::uint64_t client_picture_bytes_max = 256ull << 20;
inline constexpr std::uint64_t clients_share = 4;
/// Questions that are with the readers at a time; which of them are read first is theirs to choose.
inline constexpr std::uint32_t ingests_max = 64;
/// Connections that are accepted in one turn of the wire.
inline constexpr int accepts_a_turn = 64;
/// Descriptors that a front keeps beside those for its edges, for files and pipes of a moment.
inline constexpr std::size_t descriptors_spare = 8;
/// Of one request's `sampling_rules`.
inline constexpr std::size_t logit_bias_max = 300;
inline constexpr std::size_t stop_ids_max = 64;
inline constexpr std::uint32_t top_logprobs_max = 20;
/// Of all that would end an answer: a client's stop ids and the model's end tokens.
inline constexpr std::size_t ending_ids_max = 2 * stop_ids_max;
/// By how others call a request: its X-Request-Id.
inline constexpr std::size_t request_name_bytes_max = 128;
/// Ids of prompts that one plan carries for sequences that join: half a frame.
inline constexpr std::size_t plan_prompt_ids_max = frame_bytes_max_default / 2 / sizeof(std::int32_t);
inline constexpr std::uint32_t request_attempts_max = 3; ///< of one request, while nothing of its answer is emitted

inline constexpr std::uint32_t kv_block_tokens = 16; ///< tokens of one KV block
/// How far the members of a mesh may be apart in what each holds a copy of (G9).
inline constexpr float replica_tolerance = 1e-5F;
/// Of one prefill step: on one H200, an 8B model's prompts of 2k and 8k tokens take 9 and 7 % longer in pieces of 512,
/// and at 8k 1 % less in longer ones than these. A step of 2048 takes 0.05 s and 0.28 GB there.
inline constexpr std::uint32_t prefill_chunk_tokens = 2048;
/// Times that a prompt lets a piece of a later one go first; then it is its turn.
inline constexpr std::uint32_t prompt_passes_max = 4;
/// Rooms that one vote of a mesh asks about: those of every request that waits, as a rule.
inline constexpr std::size_t vote_rooms_max = 1024;
/// Orders that an executor holds: every started request has at most a few.
inline constexpr std::size_t executor_queue_max = 4096;
/// Frames that a link holds while its lane is full; a sender beyond it is refused with `fault::queue_full`.
inline constexpr std::size_t link_queue_frames_max = 4096;
/// Bytes of them: a link's orders of one full front are well below.
inline constexpr std::size_t link_queue_bytes_max = 256u * 1024 * 1024;
/// A link that is let go sends what is queued for so long.
inline constexpr std::chrono::milliseconds link_leave_deadline{2'000};
/// A rank whose watchdog is ready to run and is not let run by a host that has too much to do is starved and not
/// silent; it has this many times `timeouts.kill_ms`.
inline constexpr int starved_patience = 4;
/// Messages of other ranks that wait for a role of this one that is not there yet, and their bytes on the wire; of each
/// role. A cell has told nobody of its credits or grants by then, so a peer has little to say.
inline constexpr std::size_t early_messages_max = 4096;
inline constexpr std::size_t early_bytes_max = 16 * 1024 * 1024;
/// Faults that wait on one rank of a drilled job.
inline constexpr std::size_t injection_rules_max = 64;
/// Pieces of a picture file on their way from a client.
inline constexpr std::size_t picture_chunk_bytes = 256 * 1024;

/// What one picture may ask of the front (K7). PIL warns from 89 Mi pixels on; a photograph of 50 million fits.
inline constexpr std::uint64_t picture_pixels_max = std::uint64_t{64} << 20;
/// Scans of a JPEG. Encoders write 1 to 18; each costs its time over the whole picture, however few bytes it has.
inline constexpr std::uint32_t picture_scans_max = 100;
/// Pixels times scans of a JPEG: 16 scans of the largest picture.
inline constexpr std::uint64_t picture_pixel_scans_max = std::uint64_t{1} << 30;
/// Threads of the front that read pictures and prompts. Questions with more pixels than `large_question_pixels` hold at
/// most `readers_large` of them, so that one is always near for the others; those bound the memory too: a progressive
/// JPEG of the most pixels takes 0.6 GB while it is read.
inline constexpr std::uint32_t readers = 4;
inline constexpr std::uint32_t readers_large = 2;
inline constexpr std::uint64_t large_question_pixels = std::uint64_t{4} << 20;
/// From when a question's pictures and prompt begin to be read until it fails: ten times what the most takes.
inline constexpr std::chrono::milliseconds reading_deadline{30'000};

/// Sizes of pictures for which a tower keeps tables and a captured graph; the one that came longest ago goes.
inline constexpr std::size_t tower_sizes_max = 16;
/// Threads of a rank that carry weights to its device while it loads.
inline constexpr unsigned load_threads_max = 8;

/// Of a job's log file; beyond it the file takes the place of the old one that is kept, and a new one begins.
inline constexpr std::uintmax_t log_file_bytes_max = 16u * 1024 * 1024;

/// A member's part of a sum or gather between GPUs of one host that our own kernels carry out; a larger one is the
/// library's. One bound for all ranks: they must take the same way.
inline constexpr std::size_t peer_part_bytes_max = 512 * 1024;
/// Up to this each member of three or more gets all parts and adds them itself; a larger sum is shared out.
inline constexpr std::size_t peer_sum_whole_bytes_max = 128 * 1024;
/// A GPU that waits for another in a collective says so after this, and gives up so long after the collective's
/// deadline: the host, which can say whose fault it is, is to be the first.
inline constexpr std::chrono::milliseconds peer_wait_told{50};
inline constexpr std::chrono::milliseconds peer_wait_margin{2'000};

inline constexpr std::chrono::milliseconds wire_flush_deadline{200}; ///< what a leaving rank still has to say
inline constexpr std::chrono::milliseconds device_deadline{10'000};  ///< one wait for a device that is no step's
/// Memory that bytes of an aborted write may still reach is not lent for so long (I24, K2); at least
/// `timeouts.transfer_ms`, which is checked when a spec is read.
inline constexpr std::chrono::milliseconds slot_quarantine{10'000};
/// The most that counts as one step of a rank's own time, however long it was stopped; above the ticks of its roles.
inline constexpr std::chrono::milliseconds own_time_step_max{500};
/// From a rank's first instruction to its first frame.
inline constexpr std::chrono::milliseconds launch_deadline{10'000};
/// A start that is given up: its ranks serve nobody, and one that waits for an edge hears no order.
inline constexpr std::chrono::milliseconds start_abort_grace{300};
/// Before a request is tried again after a fault of the way: by then it is known whether a rank has died of it.
inline constexpr std::chrono::milliseconds retry_pause{300};
inline constexpr std::chrono::milliseconds first_cause_grace{200}; ///< a consequence was seen; its cause may follow
/// A peer's end and the supervisor's order that all are to leave come by different sockets: the order that explains the
/// end is given this long before the end counts as a fault.
inline constexpr std::chrono::milliseconds explanation_grace{300};
/// A rank that has closed its control socket leaves by itself within this, or is ended.
inline constexpr std::chrono::milliseconds control_lost_grace{1'000};
/// When the cluster is ended at once the front is told first and ordered to leave so much later: by then it has ended
/// its requests by name, and its clients have been told.
inline constexpr std::chrono::milliseconds front_notice{300};

static_assert(frame_header_bytes < unauthenticated_frame_bytes_max);
static_assert(unauthenticated_frame_bytes_max < frame_bytes_max_default);
static_assert(picture_chunk_bytes + frame_header_bytes + 64 <= frame_bytes_max_default);
static_assert(retry_pause > first_cause_grace);
static_assert(explanation_grace > first_cause_grace, "the supervisor has judged the cause before its consequences");
static_assert(pictures_per_request_max < vote_rooms_max, "a request's vote fits, and others beside it");
static_assert(readers_large < readers, "a reader is left for small questions");
static_assert(picture_pixel_scans_max / picture_pixels_max >= 12, "the largest picture may be progressive");
static_assert(large_question_pixels < picture_pixels_max);
static_assert(front_notice > wire_flush_deadline, "the front tells its clients before it leaves");
static_assert(peer_sum_whole_bytes_max < peer_part_bytes_max);
static_assert(peer_wait_told < peer_wait_margin);

} // namespace troupe::protocols::limits
