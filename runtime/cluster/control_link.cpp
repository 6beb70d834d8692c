#include "runtime/cluster/control_link.hpp"

#include "fabric/lanes/connect.hpp"

namespace troupe::cluster {
namespace {

/// A roster of limits::ranks_max endpoints fits one frame.
constexpr std::size_t control_frame_bytes_max = 4 * protocols::limits::frame_bytes_max_default;

std::unique_ptr<fabric::lane> make_lane(int fd, protocols::rank_id self, protocols::rank_id peer) {
  return fabric::make_stream_lane(
      fd, self, control_generation, peer, control_generation,
      {.frame_bytes_max = control_frame_bytes_max, .in_flight_bytes_max = 2 * control_frame_bytes_max});
}

} // namespace

std::unique_ptr<fabric::lane> open_control_lane(int fd, protocols::rank_id self) {
  return make_lane(fd, self, protocols::supervisor_rank);
}

control_link control_link::at_supervisor(base::unique_fd socket, protocols::rank_id rank) {
  return control_link{make_lane(socket.release(), protocols::supervisor_rank, rank)};
}

control_link control_link::at_rank(base::unique_fd socket, protocols::rank_id self) {
  return control_link{open_control_lane(socket.release(), self)};
}

protocols::result<std::optional<protocols::frame_view>> control_link::next() {
  if (std::exchange(taken_, false))
    lane_->pop();
  auto frame = lane_->peek();
  taken_ = frame && *frame;
  return frame;
}

protocols::result<std::optional<protocols::frame_view>> control_link::peek() {
  if (std::exchange(taken_, false))
    lane_->pop();
  return lane_->peek();
}

} // namespace troupe::cluster
