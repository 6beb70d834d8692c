#pragma once

#include <optional>
#include <string>

#include <doctest/doctest.h>

#include "gpu/backend.hpp"

/// What the tests on a GPU share.
namespace troupe::tests {

/// The first GPU's operations, or nothing where there is no GPU or no plug-in, which the test then says: CTest counts
/// it as skipped. Anything else that is wrong fails the test.
inline std::shared_ptr<const gpu::operations> cuda_or_skip() {
  auto opened = gpu::open_operations("cuda", 1);
  if (opened)
    return *std::move(opened);
  const std::string& words = opened.error().what;
  const bool none = words.find("no device") != words.npos || words.find("libtroupe_cuda.so: not there") != words.npos;
  if (!none)
    FAIL(words);
  MESSAGE("skipped: no device (" << words << ")");
  return nullptr;
}

} // namespace troupe::tests
