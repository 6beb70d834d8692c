#include <doctest/doctest.h>

#include "protocols/cluster/cluster_plan.hpp"
#include "protocols/serve/roles.hpp"

using namespace troupe::protocols;

namespace {

cluster_spec spec_on(const std::string& device) {
  cluster_spec spec;
  spec.name = "job";
  spec.device = device;
  spec.pools = {{.name = "front", .role = serve_role::front},
                {.name = "encode", .role = serve_role::encode, .cells = 2},
                {.name = "prefill", .role = serve_role::prefill, .tensor_parallel = 2},
                {.name = "decode", .role = serve_role::decode}};
  return spec;
}

std::vector<std::string> devices_of(const cluster_spec& spec, unsigned count) {
  const auto plan = make_plan(spec);
  REQUIRE_MESSAGE(plan, to_string(plan.error()));
  std::vector<std::string> names;
  for (const auto& rank : plan->ranks)
    names.push_back(rank.device.name_on(count));
  return names;
}

using names = std::vector<std::string>;

} // namespace

TEST_CASE("ranks that compute take the GPUs of their machine in turn, the front takes none") {
  CHECK(devices_of(spec_on("cuda"), 2) == names{"cpu", "cuda:0", "cuda:1", "cuda:0", "cuda:1", "cuda:0"});
  CHECK(devices_of(spec_on("cuda"), 8) == names{"cpu", "cuda:0", "cuda:1", "cuda:2", "cuda:3", "cuda:4"});
  CHECK(devices_of(spec_on("cpu"), 8) == names{"cpu", "cpu", "cpu", "cpu", "cpu", "cpu"});
}

TEST_CASE("a numbered device is counted on from, and never wrapped around") {
  CHECK(devices_of(spec_on("cuda:2"), 4) == names{"cpu", "cuda:2", "cuda:3", "cuda:4", "cuda:5", "cuda:6"});
}

TEST_CASE("a pool may say its own devices, which are counted on from there for it alone") {
  auto spec = spec_on("cuda:0");
  spec.pools[1].device = "cuda:0";
  spec.pools[2].device = "cuda:0";
  spec.pools[3].device = "cuda";
  CHECK(devices_of(spec, 4) == names{"cpu", "cuda:0", "cuda:1", "cuda:0", "cuda:1", "cuda:0"});
}

TEST_CASE("devices of two kinds, or no device at all, are refused with what is valid") {
  auto mixed = spec_on("cuda");
  mixed.pools[3].device = "cpu";
  CHECK(make_plan(mixed).error().what ==
        "pool \"decode\" computes on cpu, others on cuda; valid is one kind for all, for they write into each other's "
        "memory");
  for (const auto* wrong : {"gpu", "cpu:0", "cuda:", "cuda:one", ""}) {
    CAPTURE(wrong);
    CHECK(make_plan(spec_on(wrong)).error().what.find("valid here: cpu, cuda, cuda:0") != std::string::npos);
  }
}
