#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#ifndef TROUPE_FUZZER
#include "replay.hpp"
#endif

/// A fuzz target: one decoder of bytes from outside, fed with whatever the fuzzer thinks of.
/// Its body must end by itself, hold little and keep the decoder's promises (TROUPE_ASSERT). Built with libFuzzer it is
/// a program of its own (`tools/fuzz`); in every other build the same body is a test that goes through the inputs kept
/// in corpus/NAME, those that once broke it among them.
#ifdef TROUPE_FUZZER
#define TROUPE_FUZZ_TARGET(name)                                                                                       \
  static void name(std::span<const std::byte> input);                                                                  \
  extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {                                 \
    name(std::as_bytes(std::span{data, bytes}));                                                                       \
    return 0;                                                                                                          \
  }                                                                                                                    \
  static void name(std::span<const std::byte> input)
#else
#define TROUPE_FUZZ_TARGET(name)                                                                                       \
  static void name(std::span<const std::byte> input);                                                                  \
  TEST_CASE("the inputs kept for the fuzz target " #name) {                                                            \
    ::troupe::fuzz::replay(#name, name);                                                                               \
  }                                                                                                                    \
  static void name(std::span<const std::byte> input)
#endif
