#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <vector>

namespace troupe::fuzz {

/// Feeds every file of tests/fuzz/corpus/`name`, in the order of their names, and nothing at all.
inline void replay(const std::string& name, void (*target)(std::span<const std::byte>)) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator{TROUPE_SOURCE_DIR "/tests/fuzz/corpus/" + name})
    files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  REQUIRE_FALSE(files.empty());

  target({});
  for (const auto& file : files) {
    INFO("input: ", file.string());
    std::ifstream stream{file, std::ios::binary};
    const std::vector<char> bytes{std::istreambuf_iterator<char>{stream}, {}};
    target(std::as_bytes(std::span{bytes}));
  }
}

} // namespace troupe::fuzz
