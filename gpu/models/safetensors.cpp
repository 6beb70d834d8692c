#include "gpu/models/safetensors.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <set>

#include <xxhash.h>

#include "gpu/models/json_file.hpp"
#include "runtime/base/assert.hpp"
#include "runtime/base/unique_fd.hpp"

namespace troupe::gpu::models {

using nlohmann::json;
using protocols::fail;
using protocols::failure;
using protocols::fault;
using protocols::result;

namespace {

constexpr std::uint64_t header_bytes_max = 100'000'000; // the published format's own bound
constexpr unsigned header_depth_max = 3;                // table, tensor, shape
constexpr std::size_t dimensions_max = 8;
constexpr std::uint64_t sampled_above = 256ULL << 20;
constexpr std::size_t sample_bytes = 4096;
constexpr std::size_t samples = 64;

struct named_type {
  std::string_view name;
  std::uint64_t bytes;
};
constexpr std::array types{named_type{"F32", 4},  named_type{"BF16", 2},    named_type{"F16", 2},
                           named_type{"F64", 8},  named_type{"I64", 8},     named_type{"I32", 4},
                           named_type{"I16", 2},  named_type{"I8", 1},      named_type{"U64", 8},
                           named_type{"U32", 4},  named_type{"U16", 2},     named_type{"U8", 1},
                           named_type{"BOOL", 1}, named_type{"F8_E4M3", 1}, named_type{"F8_E5M2", 1}};

tl::unexpected<failure> refuse(const std::string& file, const std::string& what) {
  return fail(fault::config_invalid, file + ": " + what);
}

bool is_numbers(const json& list, std::size_t most) {
  return list.is_array() && list.size() <= most &&
         std::ranges::all_of(list, [](const json& each) { return each.is_number_unsigned(); });
}

/// One entry of the header; `data` is what follows it in the file.
result<published_tensor> read_entry(const std::string& file, const std::string& name, const json& entry,
                                    std::span<const std::byte> data) {
  const std::string where = "tensor " + name;
  if (!entry.is_object() || !entry.contains("dtype") || !entry["dtype"].is_string() || !entry.contains("shape") ||
      !is_numbers(entry["shape"], dimensions_max) || !entry.contains("data_offsets") ||
      !is_numbers(entry["data_offsets"], 2) || entry["data_offsets"].size() != 2)
    return refuse(file, where + " has no valid entry; valid here: dtype, a shape of at most " +
                            std::to_string(dimensions_max) + " dimensions, two data_offsets");
  published_tensor tensor;
  tensor.file = file;
  tensor.type = entry["dtype"].get<std::string>();
  const auto type = std::ranges::find(types, tensor.type, &named_type::name);
  if (type == types.end())
    return refuse(file, where + " is of dtype " + tensor.type + "; valid here: the published types, such as BF16");
  std::uint64_t bytes = type->bytes;
  for (const json& each : entry["shape"]) {
    tensor.shape.push_back(each.get<std::uint64_t>());
    if (__builtin_mul_overflow(bytes, tensor.shape.back(), &bytes))
      return refuse(file, where + " has a shape beyond 64 bits");
  }
  const auto first = entry["data_offsets"][0].get<std::uint64_t>();
  const auto last = entry["data_offsets"][1].get<std::uint64_t>();
  if (first > last || last > data.size())
    return refuse(file, where + " stands at bytes " + std::to_string(first) + " to " + std::to_string(last) + " of " +
                            std::to_string(data.size()) + "; is the file truncated?");
  if (last - first != bytes)
    return refuse(file, where + " has " + std::to_string(last - first) + " bytes; its shape and dtype make " +
                            std::to_string(bytes));
  tensor.bytes = data.subspan(first, bytes);
  return tensor;
}

/// Every byte belongs to one tensor: what overlaps or is left over was not written by anything that publishes models.
result<void> check_tiling(const std::string& file, std::span<const std::byte> data,
                          std::vector<const published_tensor*> tensors) {
  std::ranges::sort(tensors, [](const published_tensor* a, const published_tensor* b) {
    return std::pair{a->bytes.data(), a->bytes.size()} < std::pair{b->bytes.data(), b->bytes.size()};
  });
  const std::byte* at = data.data();
  for (const published_tensor* each : tensors) {
    if (each->bytes.data() != at)
      return refuse(file, "two tensors overlap, or bytes between them belong to none, at byte " +
                              std::to_string(each->bytes.data() - data.data()) + " of the data");
    at += each->bytes.size();
  }
  if (at != data.data() + data.size())
    return refuse(file, std::to_string(data.data() + data.size() - at) + " bytes after the last tensor belong to none");
  return {};
}

void hash_bytes(XXH3_state_t& state, std::span<const std::byte> bytes, bool sampled) {
  if (!sampled || bytes.size() <= sample_bytes * samples) {
    XXH3_64bits_update(&state, bytes.data(), bytes.size());
    return;
  }
  for (std::size_t i = 0; i < samples; ++i)
    XXH3_64bits_update(&state, bytes.data() + (bytes.size() - sample_bytes) / (samples - 1) * i, sample_bytes);
  XXH3_64bits_update(&state, bytes.data() + bytes.size() - sample_bytes, sample_bytes);
}

} // namespace

class tensor_files::mapping {
public:
  static result<std::unique_ptr<mapping>> of(const std::string& file) {
    const base::unique_fd fd{::open(file.c_str(), O_RDONLY | O_CLOEXEC)};
    struct stat info {};
    if (!fd || ::fstat(fd.get(), &info) != 0)
      return refuse(file, std::strerror(errno));
    if (!S_ISREG(info.st_mode) || info.st_size < 8)
      return refuse(file, "is no safetensors file: " + std::to_string(info.st_size) + " bytes");
    const auto bytes = static_cast<std::size_t>(info.st_size);
    void* const at = ::mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, fd.get(), 0);
    if (at == MAP_FAILED)
      return refuse(file, std::string{"cannot be mapped: "} + std::strerror(errno));
    return std::make_unique<mapping>(std::span{static_cast<const std::byte*>(at), bytes});
  }
  explicit mapping(std::span<const std::byte> bytes) : bytes_(bytes) {}
  mapping(const mapping&) = delete;
  mapping& operator=(const mapping&) = delete;
  ~mapping() { ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size()); }
  std::span<const std::byte> bytes() const noexcept { return bytes_; }

private:
  std::span<const std::byte> bytes_;
};

tensor_files::tensor_files() = default;
tensor_files::~tensor_files() = default;

result<void> tensor_files::add(const std::filesystem::path& path) {
  const std::string file = path.string();
  auto mapped = mapping::of(file);
  if (!mapped)
    return tl::unexpected(mapped.error());
  const auto bytes = (*mapped)->bytes();
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof length); // little endian, as every machine that this runs on
  if (length > header_bytes_max || length > bytes.size() - sizeof length)
    return refuse(file, "a header of " + std::to_string(length) + " bytes in a file of " +
                            std::to_string(bytes.size()) + "; is it truncated?");
  const std::string_view text{reinterpret_cast<const char*>(bytes.data()) + sizeof length, length};
  const auto header = parse_object(text, file + " (header)", header_depth_max);
  if (!header)
    return tl::unexpected(header.error());

  const auto data = bytes.subspan(sizeof length + length);
  std::vector<const published_tensor*> here;
  for (const auto& [name, entry] : header->items()) {
    if (name == "__metadata__")
      continue;
    auto tensor = read_entry(file, name, entry, data);
    if (!tensor)
      return tl::unexpected(tensor.error());
    const auto [at, fresh] = tensors_.emplace(name, std::move(*tensor));
    if (!fresh)
      return refuse(file, "tensor " + name + " is in " + at->second.file + " too");
    here.push_back(&at->second);
  }
  files_.push_back(std::move(*mapped));
  return check_tiling(file, data, std::move(here));
}

result<std::unique_ptr<const tensor_files>> tensor_files::open_file(const std::filesystem::path& file) {
  std::unique_ptr<tensor_files> files{new tensor_files};
  if (auto added = files->add(file); !added)
    return tl::unexpected(added.error());
  return files;
}

result<std::unique_ptr<const tensor_files>> tensor_files::open_folder(const std::filesystem::path& folder) {
  const auto single = folder / "model.safetensors";
  const auto index = folder / "model.safetensors.index.json";
  std::error_code problem; // of a folder that may not be searched, or of links that lead nowhere
  const bool is_one = std::filesystem::exists(single, problem);
  const bool are_several = !problem && !is_one && std::filesystem::exists(index, problem);
  if (problem)
    return refuse(folder.string(), "the weights cannot be looked up: " + problem.message());
  if (is_one)
    return open_file(single);
  if (!are_several)
    return refuse(folder.string(), "no weights; valid here: model.safetensors, or model.safetensors.index.json");

  const auto object = read_object(index);
  if (!object)
    return tl::unexpected(object.error());
  const auto map = object->find("weight_map");
  if (map == object->end() || !map->is_object())
    return refuse(index.string(), "weight_map is missing; valid here: an object of tensor name to file name");
  std::set<std::string> names;
  for (const auto& [tensor, file] : map->items()) {
    const std::filesystem::path plain{file.is_string() ? file.get<std::string>() : ""};
    if (plain.empty() || plain.filename() != plain || plain == "." || plain == "..")
      return refuse(index.string(),
                    "tensor " + tensor + " is in " + file.dump() + "; valid here: a file of this folder");
    names.insert(plain.string());
  }
  std::unique_ptr<tensor_files> files{new tensor_files};
  for (const std::string& name : names)
    if (auto added = files->add(folder / name); !added)
      return tl::unexpected(added.error());
  for (const auto& [tensor, file] : map->items()) {
    const published_tensor* found = files->find(tensor);
    if (!found || found->file != (folder / file.get<std::string>()).string())
      return refuse(index.string(), "tensor " + tensor + " is not in " + file.get<std::string>() + ", which it names");
  }
  return files;
}

const published_tensor* tensor_files::find(const std::string& name) const {
  const auto at = tensors_.find(name);
  return at == tensors_.end() ? nullptr : &at->second;
}

std::uint64_t tensor_files::fingerprint() const {
  std::uint64_t total = 0;
  for (const auto& [name, tensor] : tensors_)
    total += tensor.bytes.size();
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> owned{XXH3_createState(), &XXH3_freeState};
  TROUPE_ASSERT("fingerprint", owned);
  XXH3_state_t& state = *owned;
  XXH3_64bits_reset(&state);
  for (const auto& [name, tensor] : tensors_) {
    XXH3_64bits_update(&state, name.data(), name.size() + 1);
    XXH3_64bits_update(&state, tensor.type.data(), tensor.type.size() + 1);
    XXH3_64bits_update(&state, tensor.shape.data(), tensor.shape.size() * sizeof(std::uint64_t));
    hash_bytes(state, tensor.bytes, total > sampled_above);
  }
  return XXH3_64bits_digest(&state);
}

} // namespace troupe::gpu::models
