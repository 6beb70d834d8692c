#include "gpu/cuda/product.hpp"

#include <array>
#include <bit>

namespace troupe::gpu::cuda {

namespace {

constexpr std::size_t workspace_bytes = std::size_t{32} << 20; // what cuBLASLt's manual advises for Hopper
constexpr std::size_t plans_max = 1024;                        // prompts have many lengths; then all are found anew
constexpr std::uint32_t alignment_max = 256;                   // beyond it no kernel gains

cudaDataType_t type_of(element_kind element) {
  return element == element_kind::bf16 ? CUDA_R_16BF : CUDA_R_32F;
}

std::uint32_t alignment_of(const tensor_view& view) {
  const auto address = reinterpret_cast<std::uintptr_t>(view.data());
  return static_cast<std::uint32_t>(
      std::min<std::uintptr_t>(alignment_max, std::uintptr_t{1} << std::countr_zero(address | alignment_max)));
}

} // namespace

/// cuBLASLt is column-major: there out transposed [n, m] = weight [n, k] . x transposed [k, m].
struct product_plans::plan {
  cublasLtMatmulDesc_t how = nullptr;
  cublasLtMatrixLayout_t weight = nullptr, x = nullptr, out = nullptr;
  cublasLtMatmulAlgo_t algorithm{};

  plan() = default;
  ~plan() {
    for (cublasLtMatrixLayout_t each : {weight, x, out})
      if (each)
        cublasLtMatrixLayoutDestroy(each);
    if (how)
      cublasLtMatmulDescDestroy(how);
  }
  plan(const plan&) = delete;
  plan& operator=(const plan&) = delete;
};

namespace {

/// Keeps the first call that failed.
class checked_calls {
public:
  void operator()(const char* call, cublasStatus_t status) {
    if (status != CUBLAS_STATUS_SUCCESS && words_.empty())
      words_ = std::string{call} + ": " + cublasLtGetStatusName(status) + ", " + cublasLtGetStatusString(status);
  }
  bool ok() const noexcept { return words_.empty(); }
  std::string words() && { return std::move(words_); }

private:
  std::string words_;
};

} // namespace

product_plans::product_plans() = default;

product_plans::~product_plans() {
  plans_.clear();
  if (library_)
    cublasLtDestroy(library_);
}

std::string product_plans::prepare(const device& of) {
  if (library_ && workspace_)
    return {};
  if (!library_) {
    checked_calls check;
    check("cublasLtCreate", cublasLtCreate(&library_));
    if (!check.ok())
      return std::move(check).words();
  }
  auto memory = cuda_buffer::make(of, workspace_bytes);
  if (!memory)
    return protocols::to_string(memory.error());
  workspace_ = std::move(*memory);
  return {};
}

std::string product_plans::find(const product_shape& shape, plan& into) {
  checked_calls check;
  check("cublasLtMatmulDescCreate", cublasLtMatmulDescCreate(&into.how, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  const auto set = [&](cublasLtMatmulDescAttributes_t attribute, const auto& value) {
    check("cublasLtMatmulDescSetAttribute", cublasLtMatmulDescSetAttribute(into.how, attribute, &value, sizeof value));
  };
  set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
  if (shape.biased) {
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
    set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, type_of(shape.out));
  }
  const auto size = [](std::int64_t number) { return static_cast<std::uint64_t>(number); };
  check("cublasLtMatrixLayoutCreate",
        cublasLtMatrixLayoutCreate(&into.weight, type_of(shape.in), size(shape.k), size(shape.n), shape.weight_stride));
  check("cublasLtMatrixLayoutCreate",
        cublasLtMatrixLayoutCreate(&into.x, type_of(shape.in), size(shape.k), size(shape.m), shape.x_stride));
  check("cublasLtMatrixLayoutCreate",
        cublasLtMatrixLayoutCreate(&into.out, type_of(shape.out), size(shape.n), size(shape.m), shape.out_stride));

  cublasLtMatmulPreference_t wish = nullptr;
  check("cublasLtMatmulPreferenceCreate", cublasLtMatmulPreferenceCreate(&wish));
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
    check("cublasLtMatmulPreferenceSetAttribute",
          cublasLtMatmulPreferenceSetAttribute(wish, attribute, &value, sizeof value));
  };
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace_bytes);
  for (const auto attribute : {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                               CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
    prefer(attribute, shape.alignment);
  int found = 0;
  cublasLtMatmulHeuristicResult_t best{};
  if (check.ok())
    check("cublasLtMatmulAlgoGetHeuristic", cublasLtMatmulAlgoGetHeuristic(library_, into.how, into.weight, into.x,
                                                                           into.out, into.out, wish, 1, &best, &found));
  if (wish)
    cublasLtMatmulPreferenceDestroy(wish);
  if (check.ok() && found == 0)
    return "cublasLtMatmulAlgoGetHeuristic: no kernel for this product";
  into.algorithm = best.algo;
  return std::move(check).words();
}

std::string product_plans::multiply(const device& of, cudaStream_t on, const tensor_view& x, const tensor_view& weight,
                                    const tensor_view& bias, const tensor_view& out, bool add) {
  if (auto words = prepare(of); !words.empty())
    return words;
  const product_shape shape{.m = x.shape(0),
                            .n = weight.shape(0),
                            .k = weight.shape(1),
                            .x_stride = x.stride(0),
                            .weight_stride = weight.stride(0),
                            .out_stride = out.stride(0),
                            .in = x.element(),
                            .out = out.element(),
                            .biased = static_cast<bool>(bias),
                            .alignment = std::min({alignment_of(x), alignment_of(weight), alignment_of(out),
                                                   bias ? alignment_of(bias) : alignment_max})};
  auto at = plans_.find(shape);
  if (at == plans_.end()) {
    if (plans_.size() == plans_max)
      plans_.clear();
    auto made = std::make_unique<plan>();
    if (auto words = find(shape, *made); !words.empty())
      return words;
    at = plans_.emplace(shape, std::move(made)).first;
  }
  const plan& with = *at->second;
  checked_calls check;
  if (bias) {
    const void* const start = bias.data();
    check("cublasLtMatmulDescSetAttribute",
          cublasLtMatmulDescSetAttribute(with.how, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &start, sizeof start));
  }
  constexpr float one = 1.0F;
  const float kept = add ? 1.0F : 0.0F;
  check("cublasLtMatmul",
        cublasLtMatmul(library_, with.how, &one, weight.data(), with.weight, x.data(), with.x, &kept, out.data(),
                       with.out, out.data(), with.out, &with.algorithm, workspace_->data(), workspace_->bytes(), on));
  return std::move(check).words();
}

} // namespace troupe::gpu::cuda
