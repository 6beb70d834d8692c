/// One process a GPU: sums and gathers between GPUs, as a rank gets them, against sums on the host in member order.
///   troupe_peer_members MEMBERS SEED      "skipped: no device" and 0 where there are too few GPUs
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "gpu/backend.hpp"
#include "protocols/limits.hpp"
#include "runtime/base/clock.hpp"
#include "tools/bench/forked_members.hpp"
#include "tools/bench/must.hpp"

namespace {

using namespace troupe;
using bench::forked_members;
using bench::must;
using namespace std::chrono_literals;

constexpr std::size_t part_most = protocols::limits::peer_part_bytes_max / sizeof(float);
constexpr std::size_t whole_most = protocols::limits::peer_sum_whole_bytes_max / sizeof(float);

class member {
public:
  member(std::uint32_t self, forked_members& all, std::uint64_t seed)
      : self_(self), all_(all), seed_(seed), delays_(seed * 31 + self), run_(must(gpu::open_operations(device(), 1))),
        stream_(run_->make_stream()) {
    sums_ = must(gpu::join_collectives(
        device(), {self, all.count(), [this](auto mine, auto whole) { return all_.exchange(self_, mine, whole); }},
        base::now() + 30s));
    if (self == 0)
      std::printf("%u members, seed %llu: %s\n", all.count(), static_cast<unsigned long long>(seed),
                  sums_->form().c_str());
    for (auto* each : {&values_, &onto_, &gathered_, &source_, &dawdling_})
      *each = must(run_->allocate(all.count() * (part_most + 1) * sizeof(float)));
  }

  int play() {
    for (const std::size_t count : sizes())
      for (int round = 0; round < 6; ++round)
        each_way(count);
    for (int round = 0; round < 3000; ++round)
      sum(std::uniform_int_distribution<std::size_t>{1, round % 10 == 0 ? part_most : 4096}(sizes_of_all_), true);
    captured();
    if (wrong_ == 0)
      left_alone();
    if (wrong_ == 0)
      skipped();
    return wrong_ == 0 ? 0 : 1;
  }

private:
  std::string device() const { return "cuda:" + std::to_string(self_); }
  static protocols::time_point soon() { return base::now() + 20s; }
  static std::vector<std::size_t> sizes() {
    return {1,
            2,
            3,
            4,
            7,
            255,
            4096,
            4097,
            12345,
            16383,
            whole_most,
            whole_most + 1,
            part_most - 3,
            part_most,
            part_most + 1};
  }

  std::vector<float> numbers_of(std::uint32_t of, std::uint64_t what, std::size_t count) const {
    std::mt19937_64 random{seed_ + 1000 * what + of};
    std::uniform_real_distribution<float> spread{-1000.0F, 1000.0F};
    std::vector<float> numbers(count);
    std::ranges::generate(numbers, [&] { return spread(random); });
    return numbers;
  }
  std::vector<float> sum_of_all(std::uint64_t what, std::size_t count) const {
    auto sum = numbers_of(0, what, count);
    for (std::uint32_t other = 1; other < all_.count(); ++other)
      std::ranges::transform(sum, numbers_of(other, what, count), sum.begin(), std::plus{});
    return sum;
  }

  gpu::tensor_view view(const std::unique_ptr<gpu::buffer>& of, std::size_t count, std::size_t first = 0) const {
    return {of->data() + first * sizeof(float),
            gpu::element_kind::f32,
            gpu::device_kind::cuda,
            {static_cast<std::int64_t>(count)}};
  }
  void fill(const std::unique_ptr<gpu::buffer>& to, std::span<const float> with) {
    run_->upload(*stream_, std::as_bytes(with), view(to, with.size()));
  }
  std::vector<float> read(const std::unique_ptr<gpu::buffer>& from, std::size_t count, std::size_t first = 0) {
    std::vector<float> numbers(count);
    run_->download(*stream_, view(from, count, first), std::as_writable_bytes(std::span{numbers}));
    must(stream_->synchronize());
    return numbers;
  }

  /// Now and then this GPU comes late.
  void dawdle() {
    for (auto more = delays_() % 8 == 0 ? delays_() % 16 : 0; more > 0; --more) {
      const auto some = view(dawdling_, part_most).reshape({1, static_cast<std::int64_t>(part_most)});
      run_->add(*stream_, some, some);
    }
  }

  /// Of the library's sums the order is its own.
  void compare(const char* what, std::size_t count, const std::vector<float>& found, const std::vector<float>& wanted,
               bool exact) {
    for (std::size_t i = 0; i < wanted.size(); ++i)
      if (exact ? std::bit_cast<std::uint32_t>(found[i]) != std::bit_cast<std::uint32_t>(wanted[i])
                : !(std::abs(found[i] - wanted[i]) < 0.01F)) {
        if (wrong_++ < 5)
          std::printf("member %u, %s of %zu, number %zu: %.9g, not %.9g\n", self_, what, count, i,
                      static_cast<double>(found[i]), static_cast<double>(wanted[i]));
        return;
      }
  }

  void sum(std::size_t count, bool exact) {
    const auto what = ++calls_;
    fill(values_, numbers_of(self_, what, count));
    dawdle();
    must(sums_->all_reduce_sum(*stream_, view(values_, count), soon()));
    compare("sum", count, read(values_, count), sum_of_all(what, count), exact);
  }

  void each_way(std::size_t count) {
    const bool exact = count <= part_most;
    sum(count, exact);

    auto what = ++calls_;
    fill(values_, numbers_of(self_, what, count));
    fill(onto_, numbers_of(7, what, count));
    dawdle();
    must(sums_->all_reduce_add(*stream_, view(values_, count), view(onto_, count), soon()));
    auto wanted = numbers_of(7, what, count);
    std::ranges::transform(wanted, sum_of_all(what, count), wanted.begin(), std::plus{});
    compare("sum on top", count, read(onto_, count), wanted, exact);

    what = ++calls_;
    fill(values_, numbers_of(self_, what, count));
    dawdle();
    must(sums_->all_gather(*stream_, view(values_, count), view(gathered_, all_.count() * count), soon()));
    for (std::uint32_t from = 0; from < all_.count(); ++from)
      compare("gather", count, read(gathered_, count, from * count), numbers_of(from, what, count), true);
  }

  /// Several sizes in a row without the host in between, again and again.
  void captured() {
    std::vector<std::size_t> places{0};
    std::vector<std::size_t> counts;
    for (int i = 0; i < 24; ++i) {
      counts.push_back(std::uniform_int_distribution<std::size_t>{1, i % 6 == 0 ? part_most / 8 : 4096}(sizes_of_all_));
      places.push_back(places.back() + (counts.back() + 3) / 4 * 4);
    }
    const auto what = ++calls_;
    fill(source_, numbers_of(self_, what, places.back()));
    const auto row = [&](const std::unique_ptr<gpu::buffer>& of) {
      return view(of, places.back()).reshape({1, static_cast<std::int64_t>(places.back())});
    };
    auto work = must(stream_->capture([&]() -> protocols::result<void> {
      run_->copy(*stream_, row(source_), row(values_));
      for (std::size_t i = 0; i < counts.size(); ++i)
        if (auto done = sums_->all_reduce_sum(*stream_, view(values_, counts[i], places[i]), soon()); !done)
          return done;
      return {};
    }));
    const auto wanted = sum_of_all(what, places.back());
    for (int round = 0; round < 300; ++round) {
      dawdle();
      must(stream_->launch(*work));
      if (round % 30 == 0)
        for (std::size_t i = 0; i < counts.size(); ++i)
          compare("captured sum", counts[i], read(values_, counts[i], places[i]),
                  {wanted.begin() + static_cast<std::ptrdiff_t>(places[i]),
                   wanted.begin() + static_cast<std::ptrdiff_t>(places[i] + counts[i])},
                  true);
    }
    must(stream_->synchronize());
  }

  /// The last member does not come: the others say so, and their streams fail.
  void left_alone() {
    const auto last = all_.count() - 1;
    all_.meet();
    if (self_ != last) {
      must(sums_->all_reduce_sum(*stream_, view(values_, 4096), base::now() + 100ms));
      const auto until = soon();
      while (sums_->awaited() == 0 && base::now() < until)
        ::sched_yield();
      const auto awaited = sums_->awaited();
      const auto ended = stream_->synchronize();
      const bool late = !ended && ended.error().code == protocols::fault::timeout;
      if (awaited != 1U << last || !late || base::now() > until) {
        ++wrong_;
        std::printf("member %u waits for %#x and ended with %s\n", self_, awaited,
                    ended ? "nothing" : protocols::to_string(ended.error()).c_str());
      }
    }
    all_.meet();
  }

  /// The last member knows of a second group and does not join it: the others' start ends with its deadline.
  void skipped() {
    const bool skips = self_ == all_.count() - 1;
    const auto tell = [this](auto mine, auto whole) { return all_.exchange(self_, mine, whole); };
    if (skips) {
      must(gpu::exchange(gpu::collectives_seat{self_, all_.count(), tell}, std::array<std::byte, 128>{}));
    } else {
      const auto joined = gpu::join_collectives(device(), {self_, all_.count(), tell}, base::now() + 500ms);
      if (joined || joined.error().code != protocols::fault::timeout) {
        ++wrong_;
        std::printf("member %u joined a group without member %u, or ended with %s\n", self_, all_.count() - 1,
                    joined ? "nothing" : protocols::to_string(joined.error()).c_str());
      }
    }
    all_.meet();
  }

  std::uint32_t self_;
  forked_members& all_;
  std::uint64_t seed_;
  std::mt19937_64 delays_;
  std::mt19937_64 sizes_of_all_{17};
  std::shared_ptr<const gpu::operations> run_;
  std::unique_ptr<gpu::stream> stream_;
  std::unique_ptr<gpu::device_collectives> sums_;
  std::unique_ptr<gpu::buffer> values_, onto_, gathered_, source_, dawdling_;
  std::uint64_t calls_ = 0;
  int wrong_ = 0;
};

} // namespace

int main(int count, char** arguments) {
  if (count != 3)
    return 2;
  const auto members = static_cast<std::uint32_t>(std::atoi(arguments[1]));
  const auto seed = std::strtoull(arguments[2], nullptr, 10);
  // In a process of its own: what has touched a driver cannot be forked.
  const int there = forked_members::run(
      1, [&](std::uint32_t, forked_members&) { return gpu::count_devices("cuda").value_or(0) >= members ? 0 : 3; });
  if (there != 0) {
    std::printf("skipped: no device for each of %u members\n", members);
    return 0;
  }
  return forked_members::run(members, [&](std::uint32_t self, forked_members& all) {
    return member{self, all, seed}.play();
  });
}
