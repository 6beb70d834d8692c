#include <doctest/doctest.h>

#include <algorithm>

#include "protocols/cluster/parity_machine.hpp"

using namespace troupe::protocols;

namespace {

const std::vector<std::string> labels{"front", "prefill.0/t0", "prefill.0/t1"};

verdict judge(const std::vector<agree>& statements, std::vector<std::uint32_t> order = {0, 1, 2}) {
  parity_machine machine{labels};
  std::optional<verdict> judged;
  for (const auto rank : order) {
    CHECK_FALSE(judged);
    const auto outcome = machine.on_agree(rank_id{rank}, statements[rank]);
    REQUIRE(outcome);
    judged = *outcome;
  }
  REQUIRE(judged);
  return *judged;
}

} // namespace

TEST_CASE("B13: ranks that state the same agree, and a key binds only those that state it") {
  CHECK(judge({{{{"build", "a"}}}, {{{"build", "a"}, {"model", "m"}}}, {{{"model", "m"}, {"build", "a"}}}}) ==
        verdict{.agreed = true, .difference = {}});
}

TEST_CASE("B14: a flag torn between ranks is shown with who says what") {
  const auto judged =
      judge({{{{"build", "a"}}}, {{{"build", "a"}, {"env.SHARD", "1"}}}, {{{"build", "a"}, {"env.SHARD", "0"}}}});

  CHECK(judged == verdict{.agreed = false,
                          .difference = "the ranks do not agree on env.SHARD:\n"
                                        "  1  <- prefill.0/t0\n"
                                        "  0  <- prefill.0/t1"});
}

TEST_CASE("B31: of the list of groups the first line that differs is shown") {
  const auto judged = judge({{{{"groups", "prefill.0: 1 2\ndecode.0: 3 4\nx: 1\n"}}},
                             {{{"groups", "prefill.0: 1 2\ndecode.0: 4 3\nx: 2\n"}}},
                             {{{"groups", "prefill.0: 1 2\n"}}}});

  CHECK(judged.difference == "the ranks do not agree on groups, line 2:\n"
                             "  decode.0: 3 4  <- front\n"
                             "  decode.0: 4 3  <- prefill.0/t0\n"
                             "  (nothing)  <- prefill.0/t1");
}

TEST_CASE("A18: the verdict does not depend on who spoke first") {
  const std::vector<agree> statements{
      {{{"build", "a"}, {"spec", "1"}}}, {{{"spec", "2"}, {"build", "b"}}}, {{{"model", "m"}, {"build", "a"}}}};
  std::vector<std::uint32_t> order{0, 1, 2};
  do {
    const auto judged = judge(statements, order);
    CHECK(judged.difference == "the ranks do not agree on build:\n  a  <- front, prefill.0/t1\n  b  <- prefill.0/t0");
  } while (std::ranges::next_permutation(order).found);
}

TEST_CASE("B14: a long list of ranks is cut") {
  std::vector<std::string> many;
  for (int rank = 0; rank < 20; ++rank)
    many.push_back("r" + std::to_string(rank));
  parity_machine machine{many};
  result<std::optional<verdict>> last;
  for (std::uint32_t rank = 0; rank < 20; ++rank)
    last = machine.on_agree(rank_id{rank}, {{{"build", rank == 0 ? "a" : "b"}}});

  CHECK((*last)->difference == "the ranks do not agree on build:\n  a  <- r0\n"
                               "  b  <- r1, r2, r3, r4, r5, r6, r7, r8 and 11 more");
}

TEST_CASE("B13: what is no statement of facts is refused and changes nothing") {
  parity_machine machine{labels};

  CHECK(machine.on_agree(rank_id{3}, {}).error().code == fault::bad_value);
  CHECK(machine.on_agree(rank_id{0}, {{{"build", "a"}, {"build", "b"}}}).error().code == fault::bad_value);
  CHECK_FALSE(machine.has_stated(rank_id{0}));
  CHECK(machine.on_agree(rank_id{0}, {{{"build", "a"}}}));
  CHECK(machine.on_agree(rank_id{0}, {{{"build", "a"}}}).error().code == fault::illegal_transition);
}
