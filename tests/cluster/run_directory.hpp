#pragma once

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "runtime/cluster/job_directory.hpp"
#include "runtime/cluster/spec_file.hpp"

namespace troupe::tests {

/// A fresh run root for one test, removed at its end.
class run_directory {
public:
  run_directory() {
    std::string form = "/tmp/troupe-test-XXXXXX";
    path_ = ::mkdtemp(form.data());
  }
  ~run_directory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  run_directory(const run_directory&) = delete;
  run_directory& operator=(const run_directory&) = delete;

  const std::filesystem::path& path() const { return path_; }

private:
  std::filesystem::path path_;
};

inline std::string text_of(const std::filesystem::path& file) {
  std::ifstream in{file};
  return {std::istreambuf_iterator<char>{in}, {}};
}

/// `pools` and `more` as they would stand in the file.
inline cluster::loaded_spec spec_of(const std::string& pools, const std::string& more = {}) {
  const auto text = R"({ "troupe": 1, "name": "test", "model": { "path": "/nowhere" }, "pools": {)" + pools + "}" +
                    (more.empty() ? "" : ", ") + more + "}";
  auto loaded = cluster::read_spec_text(text, "/tmp/test.json");
  if (!loaded)
    throw std::runtime_error{loaded.error().what};
  return std::move(*loaded);
}

} // namespace troupe::tests
