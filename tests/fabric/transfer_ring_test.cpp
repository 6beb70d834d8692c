#include "fabric/transfers/transfer_ring.hpp"

#include <doctest/doctest.h>

#include <sys/mman.h>

#include <array>

using namespace troupe;
using fabric::transfer_ring;

TEST_CASE("K5: a completion ring whose writer claims what cannot be is refused, and nothing of it is told") {
  auto ring = transfer_ring::create();
  REQUIRE(ring);
  // The writer's cursor stands first in the memory that both sides map.
  void* const at = ::mmap(nullptr, sizeof(std::uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED, ring->file(), 0);
  REQUIRE(at != MAP_FAILED);
  auto& tail = *static_cast<volatile std::uint64_t*>(at);
  std::array<std::uint64_t, 8> words{};
  tail = transfer_ring::capacity;
  CHECK(ring->pop(words).value_or(0) == words.size());
  for (const auto claimed : {transfer_ring::capacity + words.size() + 1, std::uint64_t{1}}) { // or it goes back
    tail = claimed;
    const auto taken = ring->pop(words);
    REQUIRE_FALSE(taken);
    CHECK(taken.error().code == protocols::fault::bad_value);
  }
  ::munmap(at, sizeof(std::uint64_t));
}
