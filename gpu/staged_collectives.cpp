#include <algorithm>
#include <vector>

#include "gpu/device_collectives.hpp"
#include "gpu/group.hpp"

namespace troupe::gpu {

using protocols::result;
using protocols::time_point;

namespace {

class staged_collectives final : public device_collectives {
public:
  staged_collectives(std::shared_ptr<const operations> run, collective_backend& host)
      : run_(std::move(run)), host_(host) {}

  bool capturable() const noexcept override { return false; }
  std::string form() const override { return "the host"; }

  result<void> all_reduce_sum(stream& on, const tensor_view& values, time_point deadline) override {
    mine_.resize(static_cast<std::size_t>(values.elements()));
    return fetch(on, values, deadline).and_then([&] { return host_.all_reduce_sum(mine_, deadline); }).map([&] {
      run_->upload(on, std::as_bytes(std::span{mine_}), values);
    });
  }

  result<void> all_reduce_add(stream& on, const tensor_view& values, const tensor_view& to,
                              time_point deadline) override {
    return all_reduce_sum(on, values, deadline).map([&] { run_->add(on, to, values); });
  }

  result<void> all_gather(stream& on, const tensor_view& mine, const tensor_view& all, time_point deadline) override {
    mine_.resize(static_cast<std::size_t>(mine.elements()));
    all_.resize(static_cast<std::size_t>(all.elements()));
    pieces_.resize(all_.size());
    return fetch(on, mine, deadline).and_then([&] { return host_.all_gather(mine_, pieces_, deadline); }).map([&] {
      const auto members = static_cast<std::uint32_t>(all.shape(1) / mine.shape(1));
      put_beside(pieces_, members, {all_.data(), element_kind::f32, device_kind::cpu, {all.shape(0), all.shape(1)}});
      run_->upload(on, std::as_bytes(std::span{all_}), all);
    });
  }

  result<void> send(stream& on, const tensor_view& values, std::uint32_t to, time_point deadline) override {
    mine_.resize(static_cast<std::size_t>(values.elements()));
    return fetch(on, values, deadline).and_then([&] {
      return host_.send(to, std::as_bytes(std::span{mine_}), deadline);
    });
  }

  result<void> receive(stream& on, const tensor_view& values, std::uint32_t from, time_point deadline) override {
    mine_.resize(static_cast<std::size_t>(values.elements()));
    return host_.receive(from, std::as_writable_bytes(std::span{mine_}), deadline).map([&] {
      run_->upload(on, std::as_bytes(std::span{mine_}), values);
    });
  }

private:
  result<void> fetch(stream& on, const tensor_view& from, time_point deadline) {
    run_->download(on, from, std::as_writable_bytes(std::span{mine_}));
    return on.synchronize(deadline, wait_policy::spin);
  }

  std::shared_ptr<const operations> run_;
  collective_backend& host_;
  std::vector<float> mine_, pieces_, all_; ///< their capacity stays
};

} // namespace

void put_beside(std::span<const float> pieces, std::uint32_t members, const tensor_view& all) {
  const auto rows = static_cast<std::size_t>(all.shape(0));
  const std::size_t columns = static_cast<std::size_t>(all.shape(1)) / members;
  float* to = all.f32();
  for (std::size_t row = 0; row < rows; ++row)
    for (std::size_t member = 0; member < members; ++member)
      to = std::ranges::copy(pieces.subspan((member * rows + row) * columns, columns), to).out;
}

std::unique_ptr<device_collectives> stage_collectives(std::shared_ptr<const operations> run, collective_backend& host) {
  return std::make_unique<staged_collectives>(std::move(run), host);
}

} // namespace troupe::gpu
