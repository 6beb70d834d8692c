#pragma once

#include <bit>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>
#include <unistd.h>

/// Writes model folders as they are published, for tests: other families, other sizes, broken ones.
namespace troupe::tests {

/// A folder of this test, removed at its end.
class scratch_folder {
public:
  explicit scratch_folder(const std::string& name)
      : path_(std::filesystem::temp_directory_path() / ("troupe-" + std::to_string(::getpid()) + "-" + name)) {
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
  }
  ~scratch_folder() { std::filesystem::remove_all(path_); }
  scratch_folder(const scratch_folder&) = delete;
  scratch_folder& operator=(const scratch_folder&) = delete;
  const std::filesystem::path& path() const noexcept { return path_; }

  void write(const std::string& name, const std::string& bytes) const {
    std::ofstream stream{path_ / name, std::ios::binary};
    stream << bytes;
  }
  void write(const std::string& name, const nlohmann::json& object) const { write(name, object.dump()); }

private:
  std::filesystem::path path_;
};

struct random_tensor {
  std::vector<std::uint64_t> shape;
  bool wide = true; ///< f32; bf16 otherwise
};

/// The bytes of a safetensors file with small random numbers of `seed`; norms (one dimension) are near 1.
inline std::string random_safetensors(const std::map<std::string, random_tensor>& tensors, unsigned seed) {
  std::mt19937 from{seed};
  nlohmann::json header;
  std::string data;
  for (const auto& [name, tensor] : tensors) {
    std::uint64_t count = 1;
    for (const std::uint64_t each : tensor.shape)
      count *= each;
    const std::size_t first = data.size();
    const bool norm = name.ends_with("norm.weight") || name.find("norm1.w") != name.npos;
    std::normal_distribution<float> draw{norm ? 1.0F : 0.0F, 0.15F};
    for (std::uint64_t i = 0; i < count; ++i) {
      const auto bits = std::bit_cast<std::uint32_t>(draw(from));
      const std::size_t skipped = tensor.wide ? 0 : 2;
      for (std::size_t byte = skipped; byte < 4; ++byte)
        data.push_back(static_cast<char>(bits >> (8 * byte)));
    }
    header[name] = {
        {"dtype", tensor.wide ? "F32" : "BF16"}, {"shape", tensor.shape}, {"data_offsets", {first, data.size()}}};
  }
  const std::string text = header.dump();
  const std::uint64_t length = text.size();
  return std::string{reinterpret_cast<const char*>(&length), sizeof length} + text + data;
}

} // namespace troupe::tests
