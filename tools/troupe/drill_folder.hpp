#pragma once

#include <stdlib.h>

#include <filesystem>
#include <string>

namespace troupe::tools {

/// A folder for one run: short, for the names of sockets, and gone with it unless it is to be looked at.
class drill_folder {
public:
  drill_folder() {
    std::string name = "/tmp/troupe-drill-XXXXXX";
    if (::mkdtemp(name.data()) != nullptr)
      path_ = name;
  }
  ~drill_folder() {
    std::error_code ignored;
    if (!keep_ && !path_.empty())
      std::filesystem::remove_all(path_, ignored);
  }
  drill_folder(const drill_folder&) = delete;
  drill_folder& operator=(const drill_folder&) = delete;

  /// Empty: none could be made.
  const std::filesystem::path& path() const noexcept { return path_; }
  void keep() noexcept { keep_ = true; }

private:
  std::filesystem::path path_;
  bool keep_ = false;
};

} // namespace troupe::tools
