#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "gpu/models/config.hpp"
#include "gpu/models/safetensors.hpp"
#include "gpu/operations.hpp"

/// How each published tensor is cut by tensor parallelism, and the loading of one rank's part of it.
namespace troupe::gpu::models {

/// What of a tensor a mesh rank holds.
enum class cut : std::uint8_t {
  whole,        ///< every rank all of it
  rows,         ///< an equal share of the first dimension (column parallel: the rank computes some of the outputs)
  thirds,       ///< three matrices one after another, a share of the rows of each (a joined q, k, v)
  columns,      ///< an equal share of the last dimension (row parallel: the ranks' outputs are summed)
  first_rank,   ///< mesh rank 0 alone: the bias of what is summed, which must be added once
  rows_if_even, ///< rows where the mesh divides them, whole otherwise (the vocabulary)
};

struct tensor_plan {
  std::string name;
  std::vector<std::uint64_t> shape;
  cut how = cut::whole;
};

/// Every tensor that the model computes with.
std::vector<tensor_plan> plan_text(const model_config& config);
std::vector<tensor_plan> plan_vision(const model_config& config);

/// Whether the files hold what the plan names. Errors: config_invalid with tensor, file, what is there, what is valid.
protocols::result<void> check_plan(const tensor_files& files, const std::vector<tensor_plan>& plan,
                                   const std::string& model);

/// Empty view: this rank holds none of it.
struct weight {
  std::unique_ptr<buffer> memory;
  tensor_view view; ///< [rows, columns], a vector is [n, 1]
};

/// Whether the files hold no layer beyond those that config.json counts: a model that is cut short answers, and
/// wrongly. Errors: config_invalid with file, key and both numbers.
protocols::result<void> check_layers(const tensor_files& files, const model_config& config,
                                     const std::filesystem::path& folder);

/// Copies a rank's share out of the mapping.
/// Ownership: everything must outlive the loader, not the weights.
class shard_loader {
public:
  shard_loader(const tensor_files& files, std::vector<tensor_plan> plan, const operations& run, stream& on, shard part);

  /// The shares of the named tensors as `element`, joined along their rows: one product then does the work of several.
  /// Errors: no_memory.
  protocols::result<void> load(weight& into, const std::vector<std::string>& names, element_kind element);

private:
  const tensor_plan& planned(const std::string& name) const;
  std::vector<published_slice> slices(const std::string& name) const;

  const tensor_files& files_;
  std::vector<tensor_plan> plan_;
  const operations& run_;
  stream& on_;
  shard part_;
};

} // namespace troupe::gpu::models
