#include <numeric>

#include "runtime/base/clock.hpp"
#include "tests/gpu/cuda_twin.hpp"
#include "tests/gpu/model_support.hpp"

// Waiting for a device that is held up, by a kernel that fills it for a while: each of these tests runs in a process of
// its own.

using namespace troupe;
using namespace troupe::tests;
using namespace std::chrono_literals;
using protocols::fault;

namespace {

constexpr auto long_wait = 20s;

void hold_up(protocols::duration longest) {
  const auto struck = gpu::strike_device("cuda", {.hangs = true, .longest = longest});
  REQUIRE(struck);
}

} // namespace

TEST_CASE("CUDA: what a device does not end in time is a timeout that names device and place, and final (C1)") {
  const device_pair on;
  if (!on)
    return;
  draws from{1};
  const twin a{on, element_kind::f32, {64, 64}, from.uniform()};
  const twin b{on, element_kind::f32, {64, 64}, from.uniform()};
  on.cuda->add(*on.on_cuda, a.cuda, b.cuda); // a kernel is loaded with its first launch, which waits for the device
  on.on_cuda->mark("layer", 8);
  REQUIRE(on.on_cuda->synchronize());
  hold_up(2s);
  on.on_cuda->mark("layer", 16);
  on.cuda->add(*on.on_cuda, a.cuda, b.cuda); // finds no place on the device
  on.on_cuda->mark("layer", 24);
  std::vector<float> untouched(64 * 64, 7.0F);
  on.cuda->download(*on.on_cuda, a.cuda, std::as_writable_bytes(std::span{untouched}));

  const auto late = on.on_cuda->synchronize(base::now() + 50ms, gpu::wait_policy::backoff);
  REQUIRE_FALSE(late);
  CHECK(late.error().code == fault::timeout);
  CHECK(late.error().what == "cuda:0 has not ended what it was given, past layer 16");
  CHECK(on.on_cuda->synchronize(base::now() + long_wait, gpu::wait_policy::backoff).error() == late.error());
  CHECK(untouched == std::vector<float>(64 * 64, 7.0F));

  const auto other = on.cuda->make_stream(); // the device itself comes back
  CHECK(other->synchronize(base::now() + long_wait, gpu::wait_policy::backoff));
}

TEST_CASE("CUDA: a copy stands behind the event of what it reads, on the device (E12, E16)") {
  const device_pair on;
  if (!on)
    return;
  constexpr std::int64_t count = 1 << 16;
  const auto memory = take(gpu::open_device_memory("cuda"));
  const auto source = take(memory->make(count * sizeof(float)));
  const auto target = take(memory->make(count * sizeof(float)));
  const auto copies = memory->make_copies();
  draws from{1};
  const twin values{on, element_kind::f32, {count / 64, 64}, from.uniform()};
  const twin others{on, element_kind::f32, {count / 64, 64}, from.uniform()};
  on.cuda->copy(*on.on_cuda, values.cuda, others.cuda); // a kernel is loaded with its first launch
  REQUIRE(on.on_cuda->synchronize());
  const gpu::tensor_view rows{source->bytes().data(), element_kind::f32, gpu::device_kind::cuda, {count / 64, 64}};

  hold_up(300ms);
  on.cuda->copy(*on.on_cuda, values.cuda, rows); // a kernel, which waits
  const std::shared_ptr<gpu::stream_event> written = on.on_cuda->make_event();
  on.on_cuda->record(*written);
  REQUIRE(copies->begin(std::vector<fabric::write_piece>{{0, 0, count * sizeof(float)}}, source->bytes().data(),
                        target->bytes().data(), fabric::device_reach::direct, written.get()));
  const auto deadline = base::now() + long_wait;
  while (!take(copies->finished()))
    REQUIRE(base::now() < deadline);

  std::vector<float> arrived(count);
  on.cuda->download(*on.on_cuda, {target->bytes().data(), element_kind::f32, gpu::device_kind::cuda, {count / 64, 64}},
                    std::as_writable_bytes(std::span{arrived}));
  REQUIRE(on.on_cuda->synchronize());
  CHECK(std::equal(arrived.begin(), arrived.end(), values.cpu.f32()));
}

TEST_CASE("CUDA: what is uploaded arrives whole in every size, and its memory is free at once") {
  const device_pair on;
  if (!on)
    return;
  for (const std::int64_t rows : {1, 100, 9000}) { // within a slot, over several, by several threads
    CAPTURE(rows);
    constexpr std::int64_t columns = 1000;
    const auto memory = take(on.cuda->allocate(static_cast<std::size_t>(rows * columns) * sizeof(float)));
    const gpu::tensor_view there{memory->data(), element_kind::f32, gpu::device_kind::cuda, {rows, columns}};
    for (const std::int64_t pitch : {columns, columns + 3}) {
      CAPTURE(pitch);
      std::vector<float> from(static_cast<std::size_t>(rows * pitch));
      std::iota(from.begin(), from.end(), 1.0F);
      on.cuda->upload_published(*on.on_cuda,
                                {.data = std::as_bytes(std::span{from}).data(),
                                 .kind = gpu::published_kind::f32,
                                 .rows = rows,
                                 .columns = columns,
                                 .row_bytes = pitch * std::int64_t{sizeof(float)}},
                                there);
      const auto expected = from;
      std::ranges::fill(from, 0.0F);
      std::vector<float> arrived(static_cast<std::size_t>(rows * columns));
      on.cuda->download(*on.on_cuda, there, std::as_writable_bytes(std::span{arrived}));
      REQUIRE(on.on_cuda->synchronize());
      bool same = true;
      for (std::int64_t row = 0; row < rows; ++row)
        same &= std::equal(arrived.begin() + row * columns, arrived.begin() + (row + 1) * columns,
                           expected.begin() + row * pitch);
      CHECK(same);
    }
  }
}
