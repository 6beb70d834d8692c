#include "runtime/cluster/environment_fact.hpp"

#include <doctest/doctest.h>

#include <vector>

#include "protocols/cluster/parity_machine.hpp"
#include "runtime/cluster/supervisor.hpp"
#include "tests/cluster/reaper.hpp"
#include "tests/cluster/run_directory.hpp"

using namespace troupe;
using protocols::rank_id;

TEST_CASE("B10: what changes collectives and numbers is stated, sorted, and nothing else of the environment is") {
  const std::vector<const char*> variables{"PATH=/bin",          "OMP_NUM_THREADS=4",       "NCCL_ALGO=Ring",
                                           "OMPI_COMM_RANK=3",   "NCCL_SOCKET_IFNAME=eth0", "CUDA_VISIBLE_DEVICES=1",
                                           "ONEDNN_MAX_CPU_ISA", "GLIBC_TUNABLES=a=b",      nullptr};
  CHECK(cluster::environment_fact(variables.data()) ==
        protocols::parity_fact{"environment",
                               "GLIBC_TUNABLES=a=b\nNCCL_ALGO=Ring\nOMP_NUM_THREADS=4\nONEDNN_MAX_CPU_ISA\n"});
}

TEST_CASE("B13: a setting that one rank has and another has not is shown as a diff") {
  const std::vector<const char*> one{"NCCL_ALGO=Ring", "OMP_NUM_THREADS=4", nullptr};
  const std::vector<const char*> other{"NCCL_ALGO=Ring", nullptr};
  protocols::parity_machine parity{{"prefill.0/t0", "prefill.0/t1"}};
  REQUIRE(parity.on_agree(rank_id{0}, {{cluster::environment_fact(one.data())}}));
  const auto judged = parity.on_agree(rank_id{1}, {{cluster::environment_fact(other.data())}});
  REQUIRE(judged.value());
  CHECK((*judged)->difference == "the ranks do not agree on environment, line 2:\n"
                                 "  OMP_NUM_THREADS=4  <- prefill.0/t0\n"
                                 "  (nothing)  <- prefill.0/t1");
}

TEST_CASE(
    "B10, B13: ranks of a job whose environments differ leave before a group is made, and the diff is the cause") {
  const tests::run_directory root;
  const std::string torn = "case \"$*\" in *'--rank 1 '*) export NCCL_ALGO=Tree;; esac; exec \"$@\"";
  auto stubs = cluster::read_spec_text(
      R"({ "troupe": 1, "name": "torn", "pools": { "stub": { "role": "stub", "cells": 3 } } })", "/tmp/torn.json");
  REQUIRE_MESSAGE(stubs, stubs.error().what);
  auto prepared = cluster::supervisor::prepare(
      {.spec = *std::move(stubs),
       .job = "torn",
       .root = root.path(),
       .rank_command = {"/bin/sh", "-c", torn, "sh", std::string{TROUPE_BINARY_DIR} + "/troupe", "rank"},
       .take_signals = false,
       .on_progress = {},
       .on_ready = {},
       .on_log = {}});
  REQUIRE_MESSAGE(prepared, prepared.error().what);

  const auto outcome = (*prepared)->run();

  CHECK(outcome.code == base::exit_code::rank_failed);
  CAPTURE(outcome.first_cause);
  CHECK(outcome.first_cause.find("the ranks do not agree on environment") != std::string::npos);
  CHECK(outcome.first_cause.find("NCCL_ALGO=Tree  <- stub.1") != std::string::npos);
}
