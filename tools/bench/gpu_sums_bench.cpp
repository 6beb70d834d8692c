/// All-reduce of f32 between the GPUs of this machine, one process each, in the same run:
///   ncclAllReduce as it is; the same through the group, which checks and records it; the group as ranks have it, whose
///   small sums are our own kernels. Then the first and the last of them as part of captured work, as decode steps are.
///   gpu_sums_bench [members]
#include <cuda_runtime_api.h>
#include <nccl.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <vector>

#include "gpu/cuda/cuda_operations.hpp"
#include "gpu/cuda/cuda_stream.hpp"
#include "gpu/group.hpp"
#include "runtime/base/clock.hpp"
#include "runtime/base/flight_files.hpp"
#include "tools/bench/device_mesh.hpp"
#include "tools/bench/must_cuda.hpp"
#include "tools/bench/random_model.hpp"

namespace {

using namespace troupe;
using bench::forked_members;
using bench::median;
using bench::must;
using namespace std::chrono_literals;

void must(ncclResult_t code) {
  if (code != ncclSuccess) {
    std::fprintf(stderr, "gpu_sums_bench: %s\n", ncclGetErrorString(code));
    std::exit(1);
  }
}

class member {
public:
  member(std::uint32_t self, forked_members& all)
      : self_(self), all_(all), run_(must(gpu::cuda::make_operations(self))), stream_(run_->make_stream()),
        queue_(static_cast<gpu::cuda::cuda_stream&>(*stream_).handle()), library_(bench::make_mesh(self, all, true)),
        ours_(bench::make_mesh(self, all)) {
    ncclUniqueId mine{};
    if (self == 0)
      must(ncclGetUniqueId(&mine));
    const auto keys = must(gpu::exchange(bench::seat_of(self, all), mine));
    must(cudaSetDevice(static_cast<int>(self)));
    must(ncclCommInitRank(&bare_, static_cast<int>(all.count()), keys.front(), static_cast<int>(self)));
    memory_ = must(run_->allocate(largest));
  }

  void measure(std::size_t bytes) {
    const gpu::tensor_view values{
        memory_->data(), gpu::element_kind::f32, gpu::device_kind::cuda, {static_cast<std::int64_t>(bytes / 4)}};
    const std::uint32_t count = bytes > (4 << 20) ? 20 : 200;
    const auto bare = [&] { return sum_bare(values); };
    const auto library = [&] { return library_->all_reduce_sum(*stream_, values); };
    const auto ours = [&] { return ours_->all_reduce_sum(*stream_, values); };
    std::array<std::vector<double>, 5> taken;
    const auto bare_graph = capture(nullptr, bare);
    const auto our_graph = capture(ours_.get(), ours);
    for (int round = 0; round < 15; ++round) {
      taken[0].push_back(time(nullptr, count, bare));
      taken[1].push_back(time(library_.get(), count, library));
      taken[2].push_back(time(ours_.get(), count, ours));
      taken[3].push_back(time_launches(*bare_graph));
      taken[4].push_back(time_launches(*our_graph));
    }
    if (self_ != 0)
      return;
    std::array<double, 5> us{};
    std::ranges::transform(taken, us.begin(), [](const auto& each) { return median(each) * 1e6; });
    std::printf("| %zu | %.2f | %.2f | %+.2f us, %.3f | %.2f | %.2f | %.2f |\n", bytes, us[0], us[1], us[1] - us[0],
                us[1] / us[0], us[2], us[3], us[4]);
    std::fflush(stdout);
  }

  static constexpr std::size_t largest = std::size_t{64} << 20;

private:
  static constexpr std::uint32_t captured_sums = 72; ///< as a step of 36 layers has
  static constexpr std::uint32_t launches = 10;

  protocols::result<void> sum_bare(const gpu::tensor_view& values) {
    must(ncclAllReduce(values.data(), values.data(), static_cast<std::size_t>(values.elements()), ncclFloat32, ncclSum,
                       bare_, queue_));
    return {};
  }

  template <class Sum>
  void repeat(gpu::group* in, std::uint32_t count, const Sum& sum) {
    if (in != nullptr)
      must(in->begin(call_, "decode", count));
    call_ = call_.next();
    for (std::uint32_t i = 0; i < count; ++i)
      must(sum());
    if (in != nullptr)
      must(in->end());
  }

  template <class Sum>
  double time(gpu::group* in, std::uint32_t count, const Sum& sum) {
    must(stream_->synchronize());
    all_.meet();
    const auto begun = base::now();
    repeat(in, count, sum);
    must(stream_->synchronize());
    return std::chrono::duration<double>(base::now() - begun).count() / count;
  }

  template <class Sum>
  std::unique_ptr<gpu::captured_work> capture(gpu::group* in, const Sum& sum) {
    repeat(in, 1, sum);
    must(stream_->synchronize());
    return must(stream_->capture([&]() -> protocols::result<void> {
      repeat(in, captured_sums, sum);
      return {};
    }));
  }
  double time_launches(gpu::captured_work& work) {
    must(stream_->launch(work));
    must(stream_->synchronize());
    all_.meet();
    const auto begun = base::now();
    for (std::uint32_t i = 0; i < launches; ++i)
      must(stream_->launch(work));
    must(stream_->synchronize());
    return std::chrono::duration<double>(base::now() - begun).count() / (launches * captured_sums);
  }

  std::uint32_t self_;
  forked_members& all_;
  std::shared_ptr<const gpu::operations> run_;
  std::unique_ptr<gpu::stream> stream_;
  cudaStream_t queue_;
  std::unique_ptr<gpu::group> library_;
  std::unique_ptr<gpu::group> ours_;
  ncclComm_t bare_ = nullptr;
  std::unique_ptr<gpu::buffer> memory_;
  protocols::call_id call_{1};
};

int play(std::uint32_t self, forked_members& all) {
  const auto folder = std::filesystem::temp_directory_path() / ("troupe-gpu-sums-" + std::to_string(::getpid()));
  std::filesystem::create_directory(folder);
  must(base::open_flight(folder, {.rank = protocols::rank_id{self},
                                  .born = protocols::generation{1},
                                  .label = "bench",
                                  .groups = {}})); // as in a rank: what is measured is recorded
  member here{self, all};
  if (self == 0)
    std::printf("| bytes, %u members | ncclAllReduce, us | through the group | more | a rank's group | captured: "
                "ncclAllReduce | a rank's group |\n| --- | --- | --- | --- | --- | --- | --- |\n",
                all.count());
  for (const std::size_t bytes :
       {std::size_t{8}, std::size_t{16} << 10, std::size_t{64} << 10, std::size_t{128} << 10, std::size_t{256} << 10,
        std::size_t{512} << 10, std::size_t{1} << 20, std::size_t{16} << 20, member::largest})
    here.measure(bytes);
  std::filesystem::remove_all(folder);
  return 0;
}

} // namespace

int main(int count, char** arguments) {
  return forked_members::run(count > 1 ? static_cast<std::uint32_t>(std::atoi(arguments[1])) : 2, play);
}
