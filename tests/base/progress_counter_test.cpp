#include "runtime/base/progress_counter.hpp"

#include <doctest/doctest.h>

#include <string>

using namespace troupe;

TEST_CASE("C4: a sign is odd while its owner is at work, grows with what gets done, and rests between") {
  base::progress_table all{2};
  auto sign = all.claim("it stands still");
  CHECK_FALSE(all.at(0).works);
  CHECK_FALSE(sign.set(true));
  const auto began = all.at(0).turn;
  CHECK(began % 2 == 1);
  CHECK(sign.set(true)); // gets on
  CHECK(all.at(0).works);
  CHECK(all.at(0).turn > began);
  CHECK(sign.set(false));
  CHECK_FALSE(all.at(0).works);
  const auto rests = all.at(0).turn;
  CHECK_FALSE(sign.set(false));
  CHECK(all.at(0).turn == rests);
  CHECK(all.stuck(0) == std::string{"it stands still"});

  (void)all.claim("another");
  auto unwatched = all.claim("another");
  CHECK_FALSE(unwatched.set(true));
  CHECK(all.at(0).turn == rests);
  CHECK_FALSE(all.at(1).works);
}

TEST_CASE("K13: whoever has work that waits is not at rest, at work or not") {
  struct line final : base::queued_work {
    bool is_waiting() const noexcept override { return any; }
    bool any = false;
  } orders;
  base::progress_table all{1};
  auto sign = all.claim("it does not begin");
  sign.watch(&orders);
  CHECK_FALSE(all.at(0).works);
  orders.any = true;
  CHECK(all.at(0).works);
  const auto before = all.at(0).turn;
  CHECK(all.at(0).turn == before);
  sign.set(true);
  CHECK(all.at(0).turn > before);
  sign.set(false);
  CHECK(all.at(0).works);
  sign.watch(nullptr);
  CHECK_FALSE(all.at(0).works);
}
