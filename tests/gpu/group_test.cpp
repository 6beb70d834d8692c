#include "tests/gpu/group_fixture.hpp"

using namespace group_fixture;

TEST_CASE("G9: a sum has the same bits on every member, those of the plain loop in member order") {
  for (const std::uint32_t members : {2u, 3u, 4u})
    for (const std::size_t count : {0ul, 1ul, 192ul, 5000ul, 16'384ul, 100'003ul, 400'000ul}) {
      INFO("members: ", members, ", count: ", count, ", seeds: 100 + member");
      cast all{members};
      std::vector<std::vector<float>> values;
      for (std::uint32_t i = 0; i < members; ++i)
        values.push_back(random_floats(100 + i, count));
      auto expected = values[0];
      for (std::uint32_t i = 1; i < members; ++i)
        for (std::size_t at = 0; at < count; ++at)
          expected[at] += values[i][at];

      const auto ends = all.play([&](gpu::group& group) {
        return group.begin(call_id{1}, "test", 1)
            .and_then([&] { return group.all_reduce_sum(values[group.self()]); })
            .and_then([&] { return group.end(); });
      });

      for (std::uint32_t i = 0; i < members; ++i) {
        CHECK_MESSAGE(ends[i], words(ends[i]));
        CHECK(same_bits(values[i], expected));
      }
    }
}

TEST_CASE("A4: many collectives of all kinds in step, with random data and sizes") {
  for (const std::uint32_t members : {2u, 3u, 4u}) {
    constexpr std::uint64_t seed = 7;
    constexpr int rounds = 60;
    INFO("members: ", members, ", seed: ", seed);
    cast all{members};

    // Every member knows what every other brings, and so what must come out.
    const auto ends = all.play([&](gpu::group& group) -> result<void> {
      const auto wrong = [](const char* what) { return result<void>{fail(fault::bad_value, what)}; };
      std::mt19937_64 agreed{seed};
      for (int round = 0; round < rounds; ++round) {
        const auto kind = agreed() % 5;
        const std::size_t count = agreed() % (agreed() % 4 == 0 ? 40'000 : 300);
        const auto root = static_cast<std::uint32_t>(agreed() % members);
        const std::uint64_t data = agreed();
        const std::uint32_t next = (root + 1) % members;
        const bool bystander = kind == 4 && group.self() != root && group.self() != next;
        if (auto begun = group.begin(call_id{static_cast<std::uint64_t>(round)}, "test", bystander ? 0 : 1); !begun)
          return begun;
        const auto of = [&](std::uint32_t member) { return random_floats(data + member, count); };
        auto mine = of(group.self());
        result<void> done;
        if (kind == 0) {
          done = group.all_reduce_sum(mine);
          auto sum = of(0);
          for (std::uint32_t i = 1; i < members; ++i) {
            const auto other = of(i);
            for (std::size_t at = 0; at < count; ++at)
              sum[at] += other[at];
          }
          if (done && !same_bits(mine, sum))
            return wrong("all_reduce_sum");
        } else if (kind == 1) {
          std::vector<std::int32_t> votes(count);
          std::vector<std::int32_t> least(count, 1 << 30);
          for (std::uint32_t i = 0; i < members; ++i) {
            std::mt19937_64 ballot{data + i};
            for (std::size_t at = 0; at < count; ++at) {
              const auto vote = static_cast<std::int32_t>(ballot() % 1000) - 500;
              least[at] = std::min(least[at], vote);
              if (i == group.self())
                votes[at] = vote;
            }
          }
          done = group.all_reduce_min(votes);
          if (done && votes != least)
            return wrong("all_reduce_min");
        } else if (kind == 2) {
          std::vector<float> gathered(count * members);
          done = group.all_gather(mine, gathered);
          for (std::uint32_t i = 0; done && i < members; ++i)
            if (!same_bits(std::span{gathered}.subspan(i * count, count), of(i)))
              return wrong("all_gather");
        } else if (kind == 3) {
          done = group.broadcast(std::as_writable_bytes(std::span{mine}), root);
          if (done && !same_bits(mine, of(root)))
            return wrong("broadcast");
        } else if (group.self() == root) {
          done = group.send(next, std::as_bytes(std::span{mine}));
        } else if (group.self() == next) {
          done = group.receive(root, std::as_writable_bytes(std::span{mine}));
          if (done && !same_bits(mine, of(root)))
            return wrong("hop");
        }
        if (!done)
          return done;
        if (auto ended = group.end(); !ended)
          return ended;
      }
      return {};
    });

    for (const auto& end : ends)
      CHECK_MESSAGE(end, words(end));
  }
}

TEST_CASE("B30: one collective more than planned is refused before it is entered") {
  cast all{2};
  std::vector<float> values(8, 1.0F);
  REQUIRE(all.groups[0]->begin(call_id{5}, "forward", 0));

  const auto refused = all.groups[0]->all_reduce_sum(values);

  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == fault::plan_mismatch);
  CHECK(contains(refused, "forward"));
  CHECK(all.groups[0]->issued() == 0);
  CHECK(all.lanes[1]->to[0]->peek().value() == std::nullopt); // the peer has heard nothing
}

TEST_CASE("B30: one collective fewer than planned is a mismatch at the end of the step") {
  cast all{2};
  const auto ends = all.play([](gpu::group& group) {
    std::vector<float> values(8, 1.0F);
    return group.begin(call_id{5}, "forward", 2).and_then([&] { return group.all_reduce_sum(values); }).and_then([&] {
      return group.end();
    });
  });
  for (const auto& end : ends) {
    REQUIRE_FALSE(end);
    CHECK(end.error().code == fault::plan_mismatch);
  }
}

TEST_CASE("B19, B30: members in different collectives fail at once, naming both sides") {
  struct difference {
    std::string what;
    std::function<result<void>(gpu::group&)> first;
    std::function<result<void>(gpu::group&)> second;
    std::string first_side;
    std::string second_side;
  };
  static std::vector<float> few(8), more(9), gathered(16);
  static std::vector<std::int32_t> votes(8);
  const auto sum = [](std::vector<float>& values) {
    return [&values](gpu::group& group) {
      auto own = values;
      return group.all_reduce_sum(own);
    };
  };
  const std::vector<difference> differences{
      {"count", sum(few), sum(more), "all_reduce_sum of 8", "all_reduce_sum of 9"},
      {"kind", sum(few),
       [](gpu::group& group) {
         auto own = votes;
         return group.all_reduce_min(own);
       },
       "all_reduce_sum of 8", "all_reduce_min of 8"},
  };
  for (const auto& with : differences) {
    INFO("different: ", with.what);
    cast all{2};
    const auto began = base::now();
    const auto ends = all.play([&](gpu::group& group) {
      return group.begin(call_id{4}, "forward", 1).and_then([&] {
        return group.self() == 0 ? with.first(group) : with.second(group);
      });
    });
    CHECK(base::now() - began < 9s);
    // The slower of the two may find the other gone already; the faster one names both.
    const bool first_named = !ends[0] && ends[0].error().code == fault::plan_mismatch;
    const bool second_named = !ends[1] && ends[1].error().code == fault::plan_mismatch;
    CHECK((first_named || second_named));
    CHECK_FALSE(ends[0]);
    CHECK_FALSE(ends[1]);
    const auto& named = first_named ? ends[0] : ends[1];
    INFO(words(named));
    CHECK(contains(named, with.first_side));
    CHECK(contains(named, with.second_side));
    CHECK(contains(named, "rank 10"));
    CHECK(contains(named, "rank 11"));
  }
}

TEST_CASE("B9, B29: a collective on a group that the step does not use is refused before it is entered") {
  cast mesh{2};
  cast cell{2}; // the same ranks, in another group
  std::vector<float> values(8, 1.0F);
  REQUIRE(mesh.groups[0]->begin(call_id{5}, "forward", 1));

  const auto refused = cell.groups[0]->all_reduce_sum(values);

  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == fault::wrong_group);
  CHECK(cell.lanes[1]->to[0]->peek().value() == std::nullopt); // the peer has heard nothing
}

TEST_CASE("B29: members that take each other for members of different groups fail at once, naming both") {
  auto lanes = make_lanes(2, lane_form::shared_memory);
  lanes[1]->plan.id = group_id{9};
  gpu::group first{lanes[0]->plan, 0, gpu::make_host_backend(lanes[0]), 10s};
  gpu::group second{lanes[1]->plan, 1, gpu::make_host_backend(lanes[1]), 10s};
  std::vector<float> mine(8), theirs(8);
  REQUIRE(first.begin(call_id{1}, "forward", 1));
  REQUIRE(second.begin(call_id{1}, "forward", 1));
  std::thread other{[&] { (void)second.all_reduce_sum(theirs); }};

  const auto mixed = first.all_reduce_sum(mine);
  lanes[0]->to[1]->close(); // as a rank that leaves does
  other.join();

  REQUIRE_FALSE(mixed);
  CHECK(mixed.error().code == fault::wrong_group);
  CHECK(contains(mixed, "of group 9"));
  CHECK(contains(mixed, "group prefill.0: rank 10"));
}

TEST_CASE("B24: a second thread is refused while one is inside the group") {
  cast all{2};
  std::vector<float> values(8, 1.0F);
  std::vector<float> others(8, 1.0F);
  REQUIRE(all.groups[0]->begin(call_id{1}, "forward", 2));
  std::thread inside{[&] { (void)all.groups[0]->all_reduce_sum(values); }};
  // Its first piece is on the way to the member, which never answers: it is inside until the lane closes.
  REQUIRE(fabric::receive(*all.lanes[1]->to[0], base::now() + 10s));

  const auto refused = all.groups[0]->all_reduce_sum(others);
  all.lanes[1]->to[0]->close();
  inside.join();

  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == fault::illegal_transition);
  CHECK(contains(refused, "second thread"));
}

template <class Member>
concept can_be_root = requires(gpu::group& of, Member one, std::span<std::byte> bytes) {
  of.broadcast(bytes, one);
};
template <class Member>
concept can_be_source = requires(gpu::group& of, Member one, std::span<std::byte> bytes) {
  of.receive(one, bytes);
};
template <class Member>
concept can_be_target = requires(gpu::group& of, Member one, std::span<std::byte> bytes) {
  of.send(one, bytes);
};

TEST_CASE("B7: a rank's id cannot be passed for its place in a group") {
  static_assert(can_be_root<std::uint32_t> && can_be_source<std::uint32_t> && can_be_target<std::uint32_t>);
  static_assert(!can_be_root<rank_id> && !can_be_source<rank_id> && !can_be_target<rank_id>);
  cast all{2}; // ranks 10 and 11
  std::vector<std::byte> some(8);
  REQUIRE(all.groups[0]->begin(call_id{1}, "test", 1));
  CHECK(all.groups[0]->broadcast(some, rank_id{11}.value).error().code == fault::not_a_member);
}

TEST_CASE("B19: members of different calls do not meet") {
  cast all{2};
  const auto ends = all.play([&](gpu::group& group) {
    std::vector<float> values(8);
    return group.begin(call_id{4 + group.self()}, "forward", 1).and_then([&] { return group.all_reduce_sum(values); });
  });
  const auto& named = !ends[0] && ends[0].error().code == fault::plan_mismatch ? ends[0] : ends[1];
  INFO(words(named));
  REQUIRE_FALSE(named);
  CHECK(named.error().code == fault::plan_mismatch);
  CHECK(contains(named, "call 4"));
  CHECK(contains(named, "call 5"));
}

TEST_CASE("a root or partner that is no member is refused before anything is entered") {
  cast all{2};
  std::vector<std::byte> bytes(8);
  REQUIRE(all.groups[0]->begin(call_id{1}, "test", 3));
  CHECK(all.groups[0]->broadcast(bytes, 2).error().code == fault::not_a_member);
  CHECK(all.groups[0]->send(7, bytes).error().code == fault::not_a_member);
  CHECK(all.groups[0]->receive(0, bytes).error().code == fault::not_a_member); // itself
}

TEST_CASE("C15: a member that dies inside a collective ends it for all others at once, by name") {
  for (const std::uint32_t members : {2u, 3u, 4u}) {
    INFO("members: ", members);
    cast all{members};
    const auto began = base::now();
    const auto ends = all.play([&](gpu::group& group) -> result<void> {
      if (group.self() == members - 1)
        return fail(fault::executor_failed, "planted");
      auto values = random_floats(group.self(), 100'000);
      return group.begin(call_id{1}, "forward", 1).and_then([&] { return group.all_reduce_sum(values); });
    });
    CHECK(base::now() - began < 9s);
    bool dead_named = false;
    for (std::uint32_t i = 0; i + 1 < members; ++i) {
      REQUIRE_FALSE(ends[i]);
      CHECK(ends[i].error().code == fault::peer_gone);
      dead_named = dead_named || contains(ends[i], "with rank " + std::to_string(10 + members - 1));
    }
    CHECK(dead_named);
  }
}

TEST_CASE("C15: the end of a member that owes nothing more is noticed too") {
  cast all{3, 10s};
  std::vector<std::byte> bytes(64);
  std::promise<void> noticed;
  const auto began = base::now();
  const auto ends = all.play([&](gpu::group& group) -> result<void> {
    if (group.self() == 2)
      return fail(fault::executor_failed, "planted");
    if (group.self() == 0) { // the root never comes; member 2 is only a fellow receiver
      noticed.get_future().wait_for(5s);
      return {};
    }
    auto done = group.begin(call_id{1}, "forward", 1).and_then([&] { return group.broadcast(bytes, 0); });
    noticed.set_value();
    return done;
  });
  REQUIRE_FALSE(ends[1]);
  CHECK(ends[1].error().code == fault::peer_gone);
  CHECK(contains(ends[1], "rank 12"));
  CHECK(base::now() - began < 9s);
}

TEST_CASE("C5: a collective that others do not enter ends at its deadline and says whom it waits for") {
  cast all{3, 50ms};
  const auto began = base::now();
  std::vector<float> values(8);
  REQUIRE(all.groups[0]->begin(call_id{9}, "forward", 1));

  const auto ended = all.groups[0]->all_reduce_sum(values);

  REQUIRE_FALSE(ended);
  CHECK(ended.error().code == fault::timeout);
  CHECK(contains(ended, "prefill.0"));
  CHECK(contains(ended, "rank 11"));
  CHECK(contains(ended, "rank 12"));
  CHECK(contains(ended, "call 9"));
  CHECK(base::now() - began >= 50ms);
  CHECK(base::now() - began < 9s);
}

TEST_CASE("A9: plans reach every member in order, before the collectives that they announce") {
  cast all{3};
  const auto ends = all.play([&](gpu::group& group) -> result<void> {
    gpu::plan_channel plans{all.lanes[group.self()]};
    std::vector<std::byte> plan;
    for (std::uint64_t step = 1; step <= 200; ++step) {
      const auto bytes = random_floats(step, 1 + step % 50);
      if (group.self() == 0) {
        if (auto told = plans.announce(call_id{step}, std::as_bytes(std::span{bytes}), base::now() + 5s); !told)
          return told;
      } else {
        if (auto heard = plans.await(plan, base::now() + 5s); !heard)
          return heard;
        if (plan.size() != bytes.size() * sizeof(float) || std::memcmp(plan.data(), bytes.data(), plan.size()) != 0)
          return fail(fault::bad_value, "another plan");
      }
      std::vector<float> values(192, 1.0F);
      auto done = group.begin(call_id{step}, "step", 1).and_then([&] { return group.all_reduce_sum(values); });
      if (done)
        done = group.end();
      if (!done || values[191] != 3.0F)
        return done ? fail(fault::bad_value, "another sum") : done;
    }
    return {};
  });
  for (const auto& end : ends)
    CHECK_MESSAGE(end, words(end));
}

TEST_CASE("C18: a member that awaits a plan ticks at its deadline and goes on, and nothing is spoilt by it") {
  cast all{2};
  gpu::plan_channel leader{all.lanes[0]};
  gpu::plan_channel member{all.lanes[1]};
  std::vector<std::byte> plan;

  CHECK(member.await(plan, base::now() + 5ms).error().code == fault::timeout);
  REQUIRE(leader.announce(call_id{1}, std::vector<std::byte>(3, std::byte{4}), base::now() + 1s));
  REQUIRE(member.await(plan, base::now() + 1s));
  CHECK(plan == std::vector<std::byte>(3, std::byte{4}));

  for (auto& lane : all.lanes[0]->to)
    if (lane)
      lane->close();
  const auto gone = member.await(plan, base::now() + 5s);
  REQUIRE_FALSE(gone);
  CHECK(gone.error().code == fault::peer_gone);
}

TEST_CASE("A25: a plan where a collective is awaited is a mismatch, and the other way round") {
  cast all{2};
  gpu::plan_channel leader{all.lanes[0]};
  gpu::plan_channel member{all.lanes[1]};
  std::vector<std::byte> plan;
  SUBCASE("a plan instead of a collective") {
    REQUIRE(leader.announce(call_id{2}, plan, base::now() + 1s));
    std::vector<float> values(4);
    REQUIRE(all.groups[1]->begin(call_id{1}, "step", 1));
    const auto mixed = all.groups[1]->all_reduce_sum(values);
    REQUIRE_FALSE(mixed);
    CHECK(mixed.error().code == fault::plan_mismatch);
    CHECK(contains(mixed, "mesh_plan of call 2"));
  }
  SUBCASE("a collective instead of a plan") {
    REQUIRE(all.groups[0]->begin(call_id{1}, "step", 1));
    REQUIRE(all.groups[0]->send(1, plan));
    const auto mixed = member.await(plan, base::now() + 1s);
    REQUIRE_FALSE(mixed);
    CHECK(mixed.error().code == fault::plan_mismatch);
  }
}
