#include "protocols/mesh/late_step.hpp"

#include <doctest/doctest.h>

using namespace troupe::protocols;

namespace {

const group_plan mesh{group_id{4}, "decode.0", {rank_id{5}, rank_id{6}, rank_id{7}, rank_id{8}}};
const failure late{fault::timeout, "cuda:0 is still at it"};

} // namespace

TEST_CASE("C8: a rank whose GPU waits for another's names that one, and does not pass for the cause") {
  const auto judged = judge_late_step(late, mesh, 0b0100);
  CHECK(judged.peer == rank_id{7});
  CHECK(judged.cause.code == fault::peer_gone);
  CHECK(judged.cause.what == "the GPU waits in a collective of group decode.0 for rank 7; cuda:0 is still at it");
}

TEST_CASE("C8: of several that have not come all are named, the first in member order before the others") {
  const auto judged = judge_late_step(late, mesh, 0b1010);
  CHECK(judged.peer == rank_id{6});
  CHECK(judged.cause.what.find("for rank 6, 8;") != std::string::npos);
}

TEST_CASE("C8: a rank whose GPU waits for nobody answers for itself") {
  const auto judged = judge_late_step(late, mesh, 0);
  CHECK_FALSE(judged.peer);
  CHECK(judged.cause == late);
}

TEST_CASE("C8: what is no lateness is nobody else's fault, and who is no member is nobody") {
  const failure broken{fault::executor_failed, "cuda:0 has failed"};
  CHECK(judge_late_step(broken, mesh, 0b0010).cause == broken);
  CHECK_FALSE(judge_late_step(broken, mesh, 0b0010).peer);
  CHECK(judge_late_step(late, mesh, 0b1'0000).cause == late);
}
