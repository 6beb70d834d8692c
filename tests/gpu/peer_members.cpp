/// One process a GPU: sums and gathers between GPUs, as a rank gets them, against sums on the host in member order, and
/// products that exchange their parts themselves against a product and a sum.
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
#include "gpu/bfloat16.hpp"
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
constexpr std::size_t weight_most = std::size_t{2048} * 2080;
constexpr std::size_t whole_most = protocols::limits::peer_sum_whole_bytes_max / sizeof(float);

class member {
public:
  member(std::uint32_t self, forked_members& all, std::uint64_t seed)
      : self_(self), all_(all), seed_(seed), delays_(seed * 31 + self), run_(must(gpu::open_operations(device(), 1))),
        stream_(run_->make_stream()) {
    sums_ = must(gpu::join_collectives(
        device(), {self, all.count(), [this](auto mine, auto whole) { return all_.exchange(self_, mine, whole); }}));
    must(sums_->settle(base::now() + 30s));
    if (self == 0)
      std::printf("%u members, seed %llu: %s\n", all.count(), static_cast<unsigned long long>(seed),
                  sums_->form().c_str());
    for (auto* each : {&values_, &onto_, &gathered_, &source_, &dawdling_})
      *each = must(run_->allocate(all.count() * (part_most + 1) * sizeof(float)));
    weight_ = must(run_->allocate(weight_most * sizeof(gpu::bfloat16)));
  }

  int play() {
    for (const std::size_t count : sizes())
      for (int round = 0; round < 6; ++round)
        each_way(count);
    for (int round = 0; round < 3000; ++round)
      sum(std::uniform_int_distribution<std::size_t>{1, round % 10 == 0 ? part_most : 4096}(sizes_of_all_), true);
    captured();
    for (const auto& [outputs, depth] : product_sizes())
      products(outputs, depth);
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

    for (const std::size_t rows : {std::size_t{1}, std::size_t{3}})
      if (count % rows == 0)
        gather(rows, count / rows);
  }

  void gather(std::size_t rows, std::size_t columns) {
    const auto what = ++calls_;
    const auto table = [&](const std::unique_ptr<gpu::buffer>& of, std::size_t width) {
      return view(of, rows * width).reshape({static_cast<std::int64_t>(rows), static_cast<std::int64_t>(width)});
    };
    fill(values_, numbers_of(self_, what, rows * columns));
    dawdle();
    must(sums_->all_gather(*stream_, table(values_, columns), table(gathered_, all_.count() * columns), soon()));
    for (std::uint32_t from = 0; from < all_.count(); ++from) {
      const auto numbers = numbers_of(from, what, rows * columns);
      for (std::size_t row = 0; row < rows; ++row)
        compare("gather", columns, read(gathered_, columns, (row * all_.count() + from) * columns),
                {numbers.begin() + static_cast<std::ptrdiff_t>(row * columns),
                 numbers.begin() + static_cast<std::ptrdiff_t>((row + 1) * columns)},
                true);
    }
  }

  /// Outputs and depth: some of which no block has all, more outputs than fit on a GPU at once, an odd number of them.
  static std::vector<std::pair<std::int64_t, std::int64_t>> product_sizes() {
    return {{16, 32}, {20, 96}, {17, 64}, {1000, 512}, {4096, 1024}, {2048, 2080}, {16384, 256}};
  }
  gpu::tensor_view bf16_view(const std::unique_ptr<gpu::buffer>& of, std::int64_t rows, std::int64_t columns) const {
    return {of->data(), gpu::element_kind::bf16, gpu::device_kind::cuda, {rows, columns}};
  }
  void fill_bf16(const std::unique_ptr<gpu::buffer>& to, std::int64_t rows, std::int64_t columns) {
    const auto count = static_cast<std::size_t>(rows * columns);
    std::vector<gpu::bfloat16> rounded(count);
    std::ranges::transform(numbers_of(self_, ++calls_, count), rounded.begin(),
                           [](float number) { return gpu::narrow(number / 1000.0F); });
    run_->upload(*stream_, std::as_bytes(std::span{rounded}), bf16_view(to, rows, columns));
  }

  /// Several in a row, alone and captured, have the bits of products that are summed afterwards.
  void products(std::int64_t outputs, std::int64_t depth) {
    fill_bf16(weight_, outputs, depth);
    for (const std::int64_t rows : {1, 2, 5, 8, 9, 16, 17}) {
      const auto count = static_cast<std::size_t>(rows * outputs);
      if (count > part_most)
        break;
      const auto table = [&](const std::unique_ptr<gpu::buffer>& of) {
        return view(of, count).reshape({rows, outputs});
      };
      fill_bf16(source_, rows, depth);
      fill(gathered_, numbers_of(self_, ++calls_, static_cast<std::size_t>(outputs)));
      const auto before = numbers_of(7, ++calls_, count);
      const gpu::partial_product part{
          bf16_view(source_, rows, depth), bf16_view(weight_, outputs, depth),
          rows % 2 == 0 ? view(gathered_, static_cast<std::size_t>(outputs)) : gpu::tensor_view{}, table(values_)};
      constexpr int in_a_row = 5;
      fill(onto_, before);
      for (int i = 0; i < in_a_row; ++i) {
        run_->matmul(*stream_, part.x, part.weight, part.bias, part.room);
        must(sums_->all_reduce_add(*stream_, part.room, table(onto_), soon()));
      }
      const auto wanted = read(onto_, count);
      const auto add_products = [&]() -> protocols::result<void> {
        for (int i = 0; i < in_a_row; ++i)
          if (auto done = sums_->add_product(*run_, *stream_, part, table(onto_), soon()); !done)
            return done;
        return {};
      };
      for (int round = 0; round < 3; ++round) {
        fill(onto_, before);
        dawdle();
        must(add_products());
        compare("products", count, read(onto_, count), wanted, true);
      }
      auto work = must(stream_->capture(add_products));
      for (int round = 0; round < 30; ++round) {
        fill(onto_, before);
        dawdle();
        must(stream_->launch(*work));
        if (round % 10 == 9)
          compare("captured products", count, read(onto_, count), wanted, true);
      }
    }
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

  /// The last member does not come, to a sum or (odd seeds) a product: the others say so, and their streams fail.
  void left_alone() {
    const auto last = all_.count() - 1;
    all_.meet();
    if (self_ != last) {
      if (seed_ % 2 == 0)
        must(sums_->all_reduce_sum(*stream_, view(values_, 4096), base::now() + 100ms));
      else
        must(sums_->add_product(
            *run_, *stream_,
            {bf16_view(source_, 1, 1024), bf16_view(weight_, 4096, 1024), {}, view(values_, 4096).reshape({1, 4096})},
            view(onto_, 4096).reshape({1, 4096}), base::now() + 100ms));
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

  /// The last member takes part in all that is exchanged for a second group and does not join it: the others' start
  /// ends with its deadline.
  void skipped() {
    const bool skips = self_ == all_.count() - 1;
    const auto tell = [this](auto mine, auto whole) { return all_.exchange(self_, mine, whole); };
    if (skips) {
      for (std::uint32_t each = 0; each < gpu::join_exchanges; ++each)
        must(gpu::exchange(gpu::group_member{self_, all_.count(), tell}, std::array<std::byte, 128>{}));
    } else {
      const auto joined = must(gpu::join_collectives(device(), {self_, all_.count(), tell}));
      const auto settled = joined->settle(base::now() + 500ms);
      if (settled || settled.error().code != protocols::fault::timeout) {
        ++wrong_;
        std::printf("member %u joined a group without member %u, or ended with %s\n", self_, all_.count() - 1,
                    settled ? "nothing" : protocols::to_string(settled.error()).c_str());
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
  std::unique_ptr<gpu::buffer> values_, onto_, gathered_, source_, dawdling_, weight_;
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
