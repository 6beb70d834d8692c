// Decides outside protocols: only the thread whose calls block learns how they ended

#include <algorithm>
#include <cstring>
#include <utility>

#include "gpu/group.hpp"
#include "protocols/wire/codec.hpp"
#include "runtime/base/assert.hpp"
#include "runtime/base/clock.hpp"

namespace troupe::gpu {

using namespace protocols;

namespace {

/// One frame of a collective at most: every lane takes it, whatever frame_bytes_max its spec gives.
constexpr std::size_t piece_frame_bytes = limits::unauthenticated_frame_bytes_max;

/// From here on a sum is cut into one slice a member (reduce-scatter, all-gather): each member then sends and adds
/// 2 (n-1) / n of the values instead of n-1 times all of them, for one more exchange.
constexpr std::size_t slice_sum_from = 16 * 1024;

/// What stands before the bytes of every piece; the call is in the frame's header.
struct piece_head {
  group_id group;
  collective_kind kind{};
  std::uint64_t count = 0;  ///< elements of the collective, as its caller gave it
  std::uint64_t offset = 0; ///< bytes of this exchange that went before

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.group, self.kind, self.count, self.offset);
  }
};
constexpr std::size_t piece_head_bytes = 21;
constexpr std::size_t piece_bytes_max = piece_frame_bytes - limits::frame_header_bytes - piece_head_bytes;

std::string describe(collective_kind kind, std::uint64_t count, call_id call) {
  return std::string{name(kind)} + " of " + std::to_string(count) + " in call " + std::to_string(call.value);
}

std::string rank_of(const group_lanes& lanes, std::size_t member) {
  return "rank " + std::to_string(lanes.plan.members[member].value);
}

/// What one member owes us and we owe it in one exchange.
struct flow {
  std::span<const std::byte> out;
  std::size_t sent = 0;
  bool sending = false;
  std::vector<std::byte> piece; ///< head and bytes of the next piece; kept while its lane is full
  bool piece_ready = false;

  std::span<std::byte> in;
  std::size_t got = 0;
  bool receiving = false;
  bool ahead = false; ///< it has sent more than this exchange asks for: nothing to watch it for
};

class host_backend final : public collective_backend {
public:
  explicit host_backend(std::shared_ptr<group_lanes> lanes)
      : lanes_(std::move(lanes)), size_(lanes_->plan.members.size()), self_(lanes_->self), flows_(size_) {
    TROUPE_ASSERT("B9", lanes_->to.size() == size_ && self_ < size_);
  }

  void begin_call(call_id call) noexcept override { call_ = call; }

  result<void> all_reduce_sum(std::span<float> values, time_point deadline) override;
  result<void> all_reduce_min(std::span<std::int32_t> values, time_point deadline) override;
  result<void> all_gather(std::span<const float> mine, std::span<float> all, time_point deadline) override;
  result<void> broadcast(std::span<std::byte> bytes, std::uint32_t root, time_point deadline) override;
  result<void> send(std::uint32_t to, std::span<const std::byte> bytes, time_point deadline) override;
  result<void> receive(std::uint32_t from, std::span<std::byte> bytes, time_point deadline) override;

private:
  void enter(collective_kind kind, std::size_t count) noexcept {
    kind_ = kind;
    count_ = count;
  }
  void will_send(std::size_t to, std::span<const std::byte> bytes) noexcept;
  void will_receive(std::size_t from, std::span<std::byte> bytes) noexcept;
  template <class T>
  result<void> collect(std::span<const T> mine, std::span<T> all, time_point deadline);
  result<void> sum_in_slices(std::span<float> values, time_point deadline);

  /// Carries out what was announced by will_send and will_receive; none of it is left when it returns.
  result<void> exchange(time_point deadline);
  result<bool> push(std::size_t member);
  result<bool> pull(std::size_t member);
  result<void> check(std::size_t member, const frame_view& frame, const piece_head& head) const;
  result<void> sleep(time_point deadline);
  void drop_flows() noexcept;

  failure named(std::size_t member, failure problem) const;
  tl::unexpected<failure> overdue() const;

  std::shared_ptr<group_lanes> lanes_;
  std::size_t size_;
  std::size_t self_;
  call_id call_{};
  collective_kind kind_{};
  std::uint64_t count_ = 0;

  fabric::spin_budget patience_;

  // Kept between collectives for their capacity.
  std::vector<flow> flows_;
  std::vector<float> sums_;
  std::vector<std::int32_t> minima_;
  std::vector<fabric::waiting> waits_;
  std::vector<pollfd> polled_;
};

// ---- the exchange ----

void host_backend::will_send(std::size_t to, std::span<const std::byte> bytes) noexcept {
  auto& with = flows_[to];
  with.out = bytes;
  with.sent = 0;
  with.sending = true;
  with.piece_ready = false;
}

void host_backend::will_receive(std::size_t from, std::span<std::byte> bytes) noexcept {
  auto& with = flows_[from];
  with.in = bytes;
  with.got = 0;
  with.receiving = true;
}

result<void> host_backend::exchange(time_point deadline) {
  for (auto& with : flows_)
    with.ahead = false;
  time_point spin_end{};
  bool slept = false;
  for (bool open = true; open;) { // bytes move, of which there are so many, or it sleeps until the deadline
    bool moved = false;
    open = false;
    for (std::size_t member = 0; member < size_; ++member) {
      if (member == self_)
        continue;
      const auto pushed = push(member);
      const auto pulled = pushed ? pull(member) : pushed;
      if (!pulled) {
        drop_flows();
        return tl::unexpected<failure>{named(member, pulled.error())};
      }
      moved = moved || *pushed || *pulled;
      open = open || flows_[member].sending || flows_[member].receiving || !lanes_->to[member]->flush();
    }
    if (moved && spin_end != time_point{} && !slept)
      patience_.found();
    if (moved || !open) {
      spin_end = {};
      slept = false;
      continue;
    }
    const auto now = base::now();
    if (spin_end == time_point{})
      spin_end = now + patience_.next();
    if (now < spin_end) {
      fabric::relax();
      continue;
    }
    patience_.slept();
    slept = true;
    if (auto woken = sleep(deadline); !woken) {
      drop_flows();
      return woken;
    }
  }
  return {};
}

/// True: something was sent.
result<bool> host_backend::push(std::size_t member) {
  auto& with = flows_[member];
  bool moved = false;
  while (with.sending) {
    const auto bytes = with.out.subspan(with.sent, std::min(piece_bytes_max, with.out.size() - with.sent));
    if (!with.piece_ready) {
      with.piece.clear();
      encode_payload(piece_head{.group = lanes_->plan.id, .kind = kind_, .count = count_, .offset = with.sent},
                     with.piece);
      with.piece.insert(with.piece.end(), bytes.begin(), bytes.end());
      with.piece_ready = true;
    }
    const auto sent = lanes_->to[member]->try_send({.type = message_type::collective, .call = call_}, with.piece);
    if (!sent && sent.error().code == fault::lane_full)
      break;
    if (!sent)
      return tl::unexpected<failure>{sent.error()};
    with.piece_ready = false;
    with.sent += bytes.size();
    with.sending = with.sent < with.out.size();
    moved = true;
  }
  return moved;
}

/// True: something was received.
result<bool> host_backend::pull(std::size_t member) {
  auto& with = flows_[member];
  auto& lane = *lanes_->to[member];
  bool moved = false;
  while (with.receiving) {
    const auto next = lane.peek();
    if (!next)
      return tl::unexpected<failure>{next.error()};
    if (!*next)
      break;
    const frame_view& frame = **next;
    piece_head head;
    payload_reader reader{frame.payload};
    if (frame.header.type == message_type::collective)
      piece_head::fields(head, reader);
    if (const auto same = check(member, frame, head); !same)
      return tl::unexpected<failure>{same.error()};
    const auto bytes = reader.rest();
    if (reader.problem() || head.offset != with.got || bytes.size() > with.in.size() - with.got ||
        (bytes.empty() && !with.in.empty()))
      return fail(fault::bad_value, "a piece that does not continue the one before");
    if (!bytes.empty())
      std::memcpy(with.in.data() + with.got, bytes.data(), bytes.size());
    with.got += bytes.size();
    with.receiving = with.got < with.in.size();
    lane.pop();
    moved = true;
  }
  return moved;
}

/// Contract: B9, B19, B29, B30.
result<void> host_backend::check(std::size_t member, const frame_view& frame, const piece_head& head) const {
  if (frame.header.type != message_type::collective)
    return fail(fault::plan_mismatch, "it sent " + std::string{name(frame.header.type)} + " of call " +
                                          std::to_string(frame.header.call.value));
  if (head.group != lanes_->plan.id)
    return fail(fault::wrong_group, rank_of(*lanes_, member) + " is in " +
                                        describe(head.kind, head.count, frame.header.call) + " of group " +
                                        std::to_string(head.group.value));
  if (head.kind != kind_ || head.count != count_ || frame.header.call != call_)
    return fail(fault::plan_mismatch,
                rank_of(*lanes_, member) + " is in " + describe(head.kind, head.count, frame.header.call));
  return {};
}

/// Until something moves on any lane. Also looks at members of which nothing more is expected: their end ends us all.
result<void> host_backend::sleep(time_point deadline) {
  waits_.clear();
  for (std::size_t member = 0; member < size_; ++member) {
    const auto& with = flows_[member];
    if (member != self_ && !with.ahead)
      waits_.push_back({lanes_->to[member].get(), {.readable = with.receiving, .writable = with.sending}});
  }
  if (!fabric::wait_any(waits_, deadline, polled_))
    return overdue();
  for (std::size_t member = 0; member < size_; ++member) {
    auto& with = flows_[member];
    if (member == self_ || with.receiving || with.ahead)
      continue;
    const auto next = lanes_->to[member]->peek();
    if (!next)
      return tl::unexpected<failure>{named(member, next.error())};
    with.ahead = next->has_value() && !with.sending;
  }
  return {};
}

void host_backend::drop_flows() noexcept {
  for (auto& with : flows_)
    with.sending = with.receiving = with.piece_ready = false;
}

failure host_backend::named(std::size_t member, failure problem) const {
  std::string what = "group " + lanes_->plan.name + ": " + rank_of(*lanes_, self_) + " in " +
                     describe(kind_, count_, call_) + " with " + rank_of(*lanes_, member);
  if (problem.code != fault::peer_gone && !problem.what.empty())
    what += ": " + problem.what;
  return {problem.code, std::move(what)};
}

tl::unexpected<failure> host_backend::overdue() const {
  std::string what = "group " + lanes_->plan.name + ": " + rank_of(*lanes_, self_) + " in " +
                     describe(kind_, count_, call_) + " waits for";
  for (std::size_t member = 0; member < size_; ++member)
    if (flows_[member].sending || flows_[member].receiving)
      what += " " + rank_of(*lanes_, member);
  return fail(fault::timeout, std::move(what));
}

// ---- the collectives ----

/// Everybody's `mine`, in member order.
template <class T>
result<void> host_backend::collect(std::span<const T> mine, std::span<T> all, time_point deadline) {
  for (std::size_t member = 0; member < size_; ++member) {
    const auto place = all.subspan(member * mine.size(), mine.size());
    if (member == self_) {
      std::copy(mine.begin(), mine.end(), place.begin());
      continue;
    }
    will_send(member, std::as_bytes(mine));
    will_receive(member, std::as_writable_bytes(place));
  }
  return exchange(deadline);
}

/// `values` becomes the sum of the `pieces` of its size, in their order.
void add_in_order(std::span<const float> pieces, std::span<float> values) {
  std::copy_n(pieces.begin(), values.size(), values.begin());
  for (std::size_t at = values.size(); at < pieces.size(); at += values.size())
    for (std::size_t i = 0; i < values.size(); ++i)
      values[i] += pieces[at + i];
}

result<void> host_backend::all_reduce_sum(std::span<float> values, time_point deadline) {
  enter(collective_kind::all_reduce_sum, values.size());
  if (values.size() >= slice_sum_from && size_ > 1)
    return sum_in_slices(values, deadline);
  sums_.resize(size_ * values.size());
  return collect(std::span<const float>{values}, std::span{sums_}, deadline).map([&] { add_in_order(sums_, values); });
}

/// Each member sums one slice and hands it to the others; a slice is summed once, so all get the same bits.
result<void> host_backend::sum_in_slices(std::span<float> values, time_point deadline) {
  const auto slice = [&](std::size_t member) {
    const std::size_t first = values.size() * member / size_;
    return values.subspan(first, values.size() * (member + 1) / size_ - first);
  };
  const auto own = slice(self_);
  sums_.resize(size_ * own.size());
  for (std::size_t member = 0; member < size_; ++member) {
    const auto place = std::span{sums_}.subspan(member * own.size(), own.size());
    if (member == self_) {
      std::copy(own.begin(), own.end(), place.begin());
      continue;
    }
    will_send(member, std::as_bytes(slice(member)));
    will_receive(member, std::as_writable_bytes(place));
  }
  if (auto scattered = exchange(deadline); !scattered)
    return scattered;
  add_in_order(sums_, own);

  for (std::size_t member = 0; member < size_; ++member) {
    if (member == self_)
      continue;
    will_send(member, std::as_bytes(own));
    will_receive(member, std::as_writable_bytes(slice(member)));
  }
  return exchange(deadline);
}

result<void> host_backend::all_reduce_min(std::span<std::int32_t> values, time_point deadline) {
  enter(collective_kind::all_reduce_min, values.size());
  minima_.resize(size_ * values.size());
  return collect(std::span<const std::int32_t>{values}, std::span{minima_}, deadline).map([&] {
    for (std::size_t at = 0; at < minima_.size(); ++at)
      values[at % values.size()] = std::min(values[at % values.size()], minima_[at]);
  });
}

result<void> host_backend::all_gather(std::span<const float> mine, std::span<float> all, time_point deadline) {
  enter(collective_kind::all_gather, mine.size());
  TROUPE_ASSERT("all_gather", all.size() == size_ * mine.size());
  return collect(mine, all, deadline);
}

result<void> host_backend::broadcast(std::span<std::byte> bytes, std::uint32_t root, time_point deadline) {
  enter(collective_kind::broadcast, bytes.size());
  if (root != self_) {
    will_receive(root, bytes);
  } else {
    for (std::size_t member = 0; member < size_; ++member)
      if (member != self_)
        will_send(member, bytes);
  }
  return exchange(deadline);
}

result<void> host_backend::send(std::uint32_t to, std::span<const std::byte> bytes, time_point deadline) {
  enter(collective_kind::hop, bytes.size());
  will_send(to, bytes);
  return exchange(deadline);
}

result<void> host_backend::receive(std::uint32_t from, std::span<std::byte> bytes, time_point deadline) {
  enter(collective_kind::hop, bytes.size());
  will_receive(from, bytes);
  return exchange(deadline);
}

} // namespace

std::unique_ptr<collective_backend> make_host_backend(std::shared_ptr<group_lanes> lanes) {
  return std::make_unique<host_backend>(std::move(lanes));
}

} // namespace troupe::gpu
