#include <algorithm>
#include <random>
#include <vector>

#include "fabric/transfers/region_memory.hpp"
#include "runtime/base/clock.hpp"
#include "tests/gpu/cuda_support.hpp"

// What goes by way of the host's memory where a lane reaches no GPU's (fabric/transfers/staged_engine.hpp).

using namespace troupe;
using namespace std::chrono_literals;

TEST_CASE("CUDA: I31: pieces of every size go to pinned memory of the host and come back, byte for byte") {
  if (!tests::cuda_or_skip())
    return;
  constexpr std::size_t bytes = 8 << 20;
  const auto memory = gpu::open_device_memory("cuda").value();
  const auto device = memory->make(bytes).value();
  const auto host = fabric::region_memory::create(2 * bytes, "troupe-region").value();
  const auto pinned = memory->pin(host.bytes()).value();
  const auto copies = memory->make_copies();
  const auto first = host.bytes().first(bytes);
  const auto second = host.bytes().last(bytes);
  const auto copy = [&](const std::vector<fabric::write_piece>& pieces, const std::byte* from, std::byte* to) {
    REQUIRE(copies->begin(pieces, from, to, fabric::device_reach::pinned, nullptr));
    for (const auto deadline = base::now() + 10s; !copies->finished().value();)
      REQUIRE(base::now() < deadline);
  };

  std::mt19937 draw{7};
  std::ranges::generate(first, [&] { return static_cast<std::byte>(draw()); });
  for (const std::size_t piece : {std::size_t{48}, std::size_t{4096}, std::size_t{1001}, std::size_t{300'000}, bytes}) {
    CAPTURE(piece); // a kernel's, a kernel's, not of whole words, the copy engines', one
    std::vector<fabric::write_piece> pieces;
    for (std::size_t at = 0; at < bytes && pieces.size() < 1000; at += piece)
      pieces.push_back({at, at, std::min(piece, bytes - at)});
    const auto all = std::min(bytes, pieces.size() * piece);
    std::ranges::fill(second, std::byte{});
    copy(pieces, first.data(), device->bytes().data());
    copy(pieces, device->bytes().data(), second.data());
    CHECK(std::equal(first.begin(), first.begin() + static_cast<std::ptrdiff_t>(all), second.begin()));
  }
}
