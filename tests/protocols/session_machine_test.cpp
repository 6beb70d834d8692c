#include "protocols/serve/session_machine.hpp"

#include <doctest/doctest.h>

#include <random>
#include <set>

#include "serve_fixture.hpp"

using namespace troupe::protocols;
using namespace std::chrono_literals;

namespace {

using session = session_machine;

constexpr client_id ann{1};
constexpr client_id ben{2};

session::options bounds() {
  return {.arriving_max = 4,
          .client_questions_max = 3,
          .ingests_max = 1,
          .picture_bytes_max = 100,
          .client_bytes_max = 150,
          .bytes_max = 250,
          .request_deadline = 10s};
}

ask question(std::uint64_t tag, std::vector<std::uint64_t> pictures = {}) {
  ask one;
  one.tag = tag;
  one.picture_bytes = std::move(pictures);
  one.picture_names.assign(one.picture_bytes.size(), "a.png");
  return one;
}

/// A question that is with the ingest.
request_id ingesting(session& machine, client_id client, std::uint64_t tag) {
  const auto id = machine.on_ask(client, question(tag), at(0ms)).value();
  REQUIRE(machine.next_ingests() == session::effects{session::begin_ingest{id}});
  return id;
}

request_id admitted(session& machine, client_id client, std::uint64_t tag) {
  const auto id = ingesting(machine, client, tag);
  REQUIRE(machine.on_ingested(id, std::nullopt, 0) == session::effects{session::admit{id}});
  return id;
}

} // namespace

TEST_CASE("K9: a question whose pictures never come ends by its deadline, by name, and gives everything back") {
  session machine{bounds()};
  const auto id = machine.on_ask(ann, question(7, {60, 60}), at(0ms)).value();
  CHECK(machine.on_piece(ann, 7, 0, 60) == session::effects{session::keep_piece{id, 0}});
  CHECK(machine.on_tick(at(9999ms)).empty());

  const auto ended = machine.on_tick(at(10s));

  CHECK(only<session::forget>(ended) == std::vector{session::forget{id}});
  REQUIRE(only<session::tell_refused>(ended).size() == 1);
  CHECK(only<session::tell_refused>(ended)[0].why.code == fault::timeout);
  CHECK(only<session::tell_refused>(ended)[0].tag == 7);
  CHECK(machine.questions() == 0);
  CHECK(machine.audit().empty());
  CHECK(machine.on_piece(ann, 7, 1, 60).empty()); // what is still on its way is dropped
  CHECK(machine.on_ask(ann, question(8, {75, 75}), at(11s)));
}

TEST_CASE("K9: a question that names more pictures than it gives sizes of, or fewer, is refused in these words") {
  session machine{bounds()};
  auto asked = question(1, {10});
  asked.picture_names.clear();
  const auto nameless = machine.on_ask(ann, asked, at(0ms));
  REQUIRE_FALSE(nameless);
  CHECK(nameless.error() ==
        failure{fault::invalid_request, "0 names of pictures and 1 sizes; one of each for a picture"});
  asked = question(1);
  asked.picture_names = {"a.png", "b.png"};
  CHECK(machine.on_ask(ann, asked, at(0ms)).error().what ==
        "2 names of pictures and 0 sizes; one of each for a picture");
  const auto many = machine.on_ask(ann, question(1, std::vector<std::uint64_t>(17, 1)), at(0ms));
  CHECK(many.error().what == "17 pictures; at most 16");
  CHECK(machine.questions() == 0);
}

TEST_CASE("K9: a conversation has a place for each picture that comes with it, or is refused in these words") {
  session machine{bounds()};
  auto asked = question(1, {10, 10});
  asked.said = one_turn("Which is older?", 2);
  CHECK(machine.on_ask(ann, asked, at(0ms)));

  asked.tag = 2;
  asked.said = one_turn("Which is older?", 1);
  const auto crowded = machine.on_ask(ann, asked, at(0ms));
  REQUIRE_FALSE(crowded);
  CHECK(crowded.error().code == fault::invalid_request);
  CHECK(crowded.error().what == "2 pictures, and the conversation has places for 1; one picture for each place");
}

TEST_CASE("K9: one client is bounded in questions and in bytes below what all are, and the refusal says which bound") {
  session machine{bounds()};
  SUBCASE("questions of one client") {
    for (std::uint64_t tag = 1; tag <= 3; ++tag)
      REQUIRE(machine.on_ask(ann, question(tag), at(0ms)));
    const auto no = machine.on_ask(ann, question(4), at(0ms));
    CHECK(no.error().code == fault::queue_full);
    CHECK(no.error().what.find("the most of one client") != std::string::npos);
    CHECK(machine.on_ask(ben, question(4), at(0ms))); // its neighbour is served
    const auto full = machine.on_ask(ben, question(5), at(0ms));
    CHECK(full.error().code == fault::queue_full);
    CHECK(full.error().what.find("of all clients") != std::string::npos);
  }
  SUBCASE("bytes of one client, counted when they are announced") {
    REQUIRE(machine.on_ask(ann, question(1, {100}), at(0ms)));
    const auto no = machine.on_ask(ann, question(2, {51}), at(0ms));
    CHECK(no.error().code == fault::queue_full);
    CHECK(no.error().what.find("from this client") != std::string::npos);
    CHECK(machine.on_ask(ann, question(2, {50}), at(0ms)));
    CHECK(machine.on_ask(ben, question(1, {100}), at(0ms)));
    const auto full = machine.on_ask(client_id{3}, question(1, {1}), at(0ms));
    CHECK(full.error().what.find("from all clients") != std::string::npos);
  }
  SUBCASE("what can never be sent is refused at once") {
    CHECK(machine.on_ask(ann, question(1, {100, 51}), at(0ms)).error().code == fault::invalid_request);
    CHECK(machine.on_ask(ann, question(1, {101}), at(0ms)).error().code == fault::bad_picture);
    CHECK(machine.on_ask(ann, question(1, {0}), at(0ms)).error().code == fault::bad_picture);
    CHECK(machine.on_ask(ann, question(1, std::vector<std::uint64_t>(17, 1)), at(0ms)).error().code ==
          fault::invalid_request);
  }
  SUBCASE("a tag is one question's at a time, for its client") {
    REQUIRE(machine.on_ask(ann, question(1), at(0ms)));
    CHECK(machine.on_ask(ann, question(1), at(0ms)).error().code == fault::invalid_request);
    CHECK(machine.on_ask(ben, question(1), at(0ms)));
  }
  CHECK(machine.audit().empty());
}

TEST_CASE("K9, C15: a cancel finds its question wherever it is") {
  session machine{bounds()};
  const session::tell_cancelled told{ann, 1};
  SUBCASE("arriving") {
    const auto id = machine.on_ask(ann, question(1, {10}), at(0ms)).value();
    CHECK(machine.on_withdraw(ann, 1) == session::effects{session::forget{id}, told});
  }
  SUBCASE("waiting for its turn") {
    (void)ingesting(machine, ben, 9);
    const auto id = machine.on_ask(ann, question(1), at(0ms)).value();
    CHECK(machine.on_withdraw(ann, 1) == session::effects{session::forget{id}, told});
    CHECK(machine.next_ingests().empty());
  }
  SUBCASE("with the ingest, whose result is then nobody's") {
    const auto id = ingesting(machine, ann, 1);
    CHECK(machine.on_withdraw(ann, 1) == session::effects{session::stop_ingest{id}, told});
    CHECK(machine.on_withdraw(ann, 1).empty());
    CHECK(machine.audit().empty());
    CHECK(machine.on_ask(ann, question(1), at(0ms))); // the tag is free
    CHECK(machine.next_ingests().empty());            // the place is not, as long as the ingest is at it
    CHECK(machine.on_ingested(id, std::nullopt, 50) == session::effects{session::forget{id}});
    CHECK(machine.next_ingests().size() == 1);
  }
  SUBCASE("admitted: the front machine answers") {
    const auto id = admitted(machine, ann, 1);
    CHECK(machine.on_withdraw(ann, 1) == session::effects{session::cancel_request{id}});
    CHECK(machine.on_ended(id) == session::effects{session::forget{id}});
    CHECK(machine.questions() == 0);
  }
  SUBCASE("not another client's") {
    (void)machine.on_ask(ann, question(1, {10}), at(0ms));
    CHECK(machine.on_withdraw(ben, 1).empty());
    CHECK(machine.questions() == 1);
  }
  CHECK(machine.audit().empty());
}

TEST_CASE("K9: the end of a client ends all its questions in every stage and nobody else's, and nobody is told") {
  auto wide = bounds();
  wide.client_questions_max = 4;
  session machine{wide};
  const auto served = admitted(machine, ann, 1);
  const auto read = ingesting(machine, ann, 2);
  const auto whole = machine.on_ask(ann, question(3), at(0ms)).value();
  const auto arriving = machine.on_ask(ann, question(4, {10}), at(0ms)).value();
  const auto other = machine.on_ask(ben, question(1), at(0ms)).value();

  const auto gone = machine.on_client_gone(ann);

  CHECK(only<session::cancel_request>(gone) == std::vector{session::cancel_request{served}});
  CHECK(only<session::stop_ingest>(gone) == std::vector{session::stop_ingest{read}});
  CHECK(only<session::forget>(gone) == std::vector{session::forget{whole}, session::forget{arriving}});
  CHECK(gone.size() == 4);
  CHECK(machine.audit().empty());
  CHECK(machine.on_ingested(read, failure{fault::cancelled, {}}, 0) == session::effects{session::forget{read}});
  CHECK(machine.next_ingests() == session::effects{session::begin_ingest{other}});
  (void)machine.on_ended(served);
  CHECK(machine.questions() == 1);
}

TEST_CASE("K7: clients take turns at the ingest, each in its own order") {
  auto wide = bounds();
  wide.arriving_max = 8;
  session machine{wide};
  std::vector<request_id> asked;
  for (std::uint64_t tag = 1; tag <= 3; ++tag)
    asked.push_back(machine.on_ask(ann, question(tag), at(0ms)).value());
  asked.push_back(machine.on_ask(ben, question(1), at(0ms)).value());

  std::vector<request_id> order;
  for (auto next = machine.next_ingests(); !next.empty(); next = machine.next_ingests()) {
    order.push_back(std::get<session::begin_ingest>(next.at(0)).request);
    (void)machine.on_ingested(order.back(), std::nullopt, 0);
  }
  CHECK(order == std::vector{asked[0], asked[3], asked[1], asked[2]});
}

TEST_CASE("K9: no picture is decoded while those that are decoded and not used hold the bound, and text is") {
  session machine{bounds()};
  const auto first = machine.on_ask(ann, question(1, {10}), at(0ms)).value();
  (void)machine.on_piece(ann, 1, 0, 10);
  REQUIRE(machine.next_ingests().size() == 1);
  (void)machine.on_ingested(first, std::nullopt, 150); // as much as one client may hold

  const auto picture = machine.on_ask(ann, question(2, {10}), at(0ms)).value();
  (void)machine.on_piece(ann, 2, 0, 10);
  CHECK(machine.next_ingests().empty());
  const auto text = machine.on_ask(ben, question(1), at(0ms)).value();
  CHECK(machine.next_ingests() == session::effects{session::begin_ingest{text}});
  (void)machine.on_ingested(text, std::nullopt, 0);

  machine.on_pictures_used(first);
  CHECK(machine.next_ingests() == session::effects{session::begin_ingest{picture}});
}

TEST_CASE("more bytes than announced end the question by name, in every stage") {
  session machine{bounds()};
  const auto id = machine.on_ask(ann, question(1, {10}), at(0ms)).value();
  SUBCASE("arriving") {
    const auto end = machine.on_piece(ann, 1, 0, 11);
    CHECK(only<session::forget>(end).size() == 1);
    CHECK(only<session::tell_refused>(end).at(0).why.code == fault::invalid_request);
  }
  SUBCASE("no such picture") {
    CHECK(only<session::tell_refused>(machine.on_piece(ann, 1, 1, 1)).size() == 1);
  }
  SUBCASE("with the ingest") {
    (void)machine.on_piece(ann, 1, 0, 10);
    (void)machine.next_ingests();
    const auto end = machine.on_piece(ann, 1, 0, 1);
    CHECK(only<session::stop_ingest>(end) == std::vector{session::stop_ingest{id}});
    CHECK(only<session::tell_refused>(end).size() == 1);
  }
  SUBCASE("admitted") {
    (void)machine.on_piece(ann, 1, 0, 10);
    (void)machine.next_ingests();
    (void)machine.on_ingested(id, std::nullopt, 5);
    CHECK(machine.on_piece(ann, 1, 0, 1) == session::effects{session::cancel_request{id}});
  }
  CHECK(machine.audit().empty());
}

TEST_CASE("C3: a drain refuses what is not admitted and what comes, and leaves the rest") {
  session machine{bounds()};
  const auto served = admitted(machine, ann, 1);
  (void)machine.on_ask(ann, question(2, {10}), at(0ms));
  const auto told = only<session::tell_refused>(machine.on_drain());
  REQUIRE(told.size() == 1);
  CHECK(told[0].why.code == fault::shutting_down);
  CHECK(machine.on_ask(ben, question(1), at(0ms)).error().code == fault::shutting_down);
  CHECK(machine.on_ended(served).size() == 1);
}

TEST_CASE("K3, K9, K16: through any walk of clients the counts agree with what is held, each question ends once, and "
          "all end") {
  for (std::uint32_t seed = 1; seed <= 60; ++seed) {
    CAPTURE(seed);
    std::mt19937 random{seed};
    const auto below = [&](std::uint32_t most) { return static_cast<std::uint32_t>(random() % most); };
    auto wide = bounds();
    wide.arriving_max = 6;
    wide.ingests_max = 2;
    session machine{wide};
    std::set<request_id> held;      // by the actor
    std::set<request_id> ingesting; // by the ingest
    std::set<request_id> serving;   // by the front machine
    std::map<std::pair<client_id, std::uint64_t>, int> open;
    time_point now = at(0ms);

    const auto carry_out = [&](session::effects what) {
      const auto next = machine.next_ingests();
      what.insert(what.end(), next.begin(), next.end());
      for (const auto& each : what) {
        if (const auto* const piece = std::get_if<session::keep_piece>(&each))
          CHECK(held.contains(piece->request));
        if (const auto* const begun = std::get_if<session::begin_ingest>(&each))
          CHECK(ingesting.insert(begun->request).second);
        if (const auto* const stopped = std::get_if<session::stop_ingest>(&each))
          CHECK(ingesting.contains(stopped->request));
        if (const auto* const ready = std::get_if<session::admit>(&each))
          CHECK(serving.insert(ready->request).second);
        if (const auto* const given_up = std::get_if<session::cancel_request>(&each))
          CHECK(serving.contains(given_up->request));
        if (const auto* const end = std::get_if<session::forget>(&each))
          CHECK(held.erase(end->request) == 1);
        if (const auto* const no = std::get_if<session::tell_refused>(&each))
          CHECK(--open[{no->client, no->tag}] == 0);
        if (const auto* const end = std::get_if<session::tell_cancelled>(&each))
          CHECK(--open[{end->client, end->tag}] == 0);
      }
      REQUIRE(machine.audit() == "");
      REQUIRE(machine.questions() == held.size());
    };
    const auto any_of = [&](const std::set<request_id>& from) {
      return *std::next(from.begin(), below(static_cast<std::uint32_t>(from.size())));
    };
    const auto end_ingest = [&] {
      const auto id = any_of(ingesting);
      ingesting.erase(id);
      carry_out(machine.on_ingested(id, below(4) == 0 ? std::optional{failure{fault::bad_picture, "x"}} : std::nullopt,
                                    below(60)));
    };
    const auto end_serving = [&] {
      const auto id = any_of(serving);
      serving.erase(id);
      carry_out(machine.on_ended(id));
    };

    for (int step = 0; step < 300; ++step) {
      const client_id client{1 + below(3)};
      const std::uint64_t tag = 1 + below(4);
      now += std::chrono::milliseconds{below(300)};
      switch (below(9)) {
      case 0:
      case 1: {
        const auto taken =
            machine.on_ask(client, below(2) == 0 ? question(tag) : question(tag, {1 + below(90), 1 + below(20)}), now);
        if (taken) {
          held.insert(*taken);
          open[{client, tag}] = 1;
        }
        carry_out({});
        break;
      }
      case 2:
      case 3:
        carry_out(machine.on_piece(client, tag, below(2), 1 + below(20)));
        break;
      case 4:
        carry_out(machine.on_withdraw(client, tag));
        break;
      case 5:
        if (below(6) == 0)
          carry_out(machine.on_client_gone(client));
        break;
      case 6:
        if (!ingesting.empty())
          end_ingest();
        break;
      case 7:
        if (!serving.empty()) {
          if (below(2) == 0)
            machine.on_pictures_used(any_of(serving));
          else
            end_serving();
        }
        break;
      default:
        carry_out(machine.on_tick(now));
      }
    }
    while (!ingesting.empty())
      end_ingest();
    while (!serving.empty())
      end_serving();
    carry_out(machine.on_tick(now + 20s));
    while (!ingesting.empty())
      end_ingest();
    while (!serving.empty())
      end_serving();
    CHECK(machine.questions() == 0);
    CHECK(held.empty());
  }
}
