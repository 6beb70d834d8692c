#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "protocols/fault.hpp"

/// Published weights: safetensors files, mapped.
namespace troupe::gpu::models {

/// A tensor of a mapped file. `bytes` stands at no particular alignment.
struct published_tensor {
  std::string type; ///< as the file writes it: "BF16"
  std::vector<std::uint64_t> shape;
  std::span<const std::byte> bytes;
  std::string file; ///< for messages
};

/// One file, or the shards that model.safetensors.index.json names, mapped read-only for the life of this object.
/// A header is hostile until checked: its length, nesting, types and offsets are checked against the file before a
/// tensor is named; tensors neither overlap nor leave holes. Threads: immutable; any.
class tensor_files {
public:
  /// Errors: config_invalid with file, tensor, what is there and what would be valid.
  static protocols::result<std::unique_ptr<const tensor_files>> open_file(const std::filesystem::path& file);
  static protocols::result<std::unique_ptr<const tensor_files>> open_folder(const std::filesystem::path& folder);
  ~tensor_files();

  const published_tensor* find(const std::string& name) const;
  const std::map<std::string, published_tensor>& tensors() const noexcept { return tensors_; }

  /// XXH3-64 over names, types, shapes and bytes. Of more than 256 MiB it takes 64 evenly spaced pages of 4 KiB of each
  /// tensor, first and last included: enough to tell models apart, and a 16 GB folder need not be read to start a rank.
  std::uint64_t fingerprint() const;

private:
  class mapping;
  tensor_files();
  protocols::result<void> add(const std::filesystem::path& file);

  std::vector<std::unique_ptr<mapping>> files_;
  std::map<std::string, published_tensor> tensors_;
};

} // namespace troupe::gpu::models
