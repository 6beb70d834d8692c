#include "runtime/cluster/spec_file.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "protocols/cluster/cluster_plan.hpp"
#include "runtime/cluster/spec_keys.hpp"

using namespace troupe;
using cluster::read_spec_text;

namespace {

/// A spec that is good, with `extra` members at its end.
std::string with(const std::string& extra) {
  return R"({
  "troupe": 1,
  "name": "reader",
  "model": { "path": "../models/reader" },
  "pools": { "all": { "role": "all" } })" +
         extra + "\n}";
}

std::string problem_of(const std::string& text) {
  const auto loaded = read_spec_text(text, "reader.json");
  return loaded ? "" : loaded.error().what;
}

} // namespace

TEST_CASE("every spec that is shipped is read and expands") {
  const std::filesystem::path folder = std::filesystem::path{TROUPE_SOURCE_DIR} / "deploy/specs";
  std::size_t seen = 0;
  for (const auto& entry : std::filesystem::directory_iterator{folder}) {
    const auto loaded = cluster::read_spec(entry.path());
    CAPTURE(entry.path().string());
    REQUIRE_MESSAGE(loaded, loaded.error().what);
    CHECK(protocols::make_plan(loaded->spec));
    CHECK(loaded->spec.name == entry.path().stem());
    ++seen;
  }
  CHECK(seen > 0);
}

TEST_CASE("a spec is read with comments, in the order written, with a model path relative to its file") {
  const auto loaded = read_spec_text(R"(// a comment
{
  "troupe": 1, "name": "reader",
  "model": { "path": "../models/reader" }, /* another */
  "pools": {
    "zeta": { "role": "front" }, "encode": { "role": "encode", "cells": 2 },
    "alpha": { "role": "prefill", "tensor_parallel": 2 }, "decode": { "role": "decode" }
  },
  "lanes": { "bulk": "fabric", "tcp_port": 9000 }
})",
                                     "/srv/specs/reader.json");

  REQUIRE_MESSAGE(loaded, loaded.error().what);
  const auto& spec = loaded->spec;
  CHECK(spec.model_path == "/srv/models/reader");
  REQUIRE(spec.pools.size() == 4);
  CHECK(spec.pools[0].name == "zeta");
  CHECK(spec.pools[1].cells == 2);
  CHECK(spec.pools[2].name == "alpha");
  CHECK(spec.pools[2].tensor_parallel == 2);
  CHECK(spec.lanes.bulk == protocols::bulk_lane::fabric);
  CHECK(spec.lanes.tcp_port == 9000);
  CHECK(loaded->written.at("pools.alpha.tensor_parallel") == cluster::text_place{7, 35});
  CHECK(loaded->written.at("name") == cluster::text_place{3, 16});
  CHECK_FALSE(loaded->written.contains("limits.batch_max"));
}

TEST_CASE("the effective form reads back to the same spec and the same digest") {
  const auto loaded = read_spec_text(with(R"(, "limits": { "batch_max": 7 }, "drills": true)"), "/srv/reader.json");
  REQUIRE(loaded);

  const auto again = cluster::parse_effective_spec(loaded->effective_json);

  REQUIRE_MESSAGE(again, again.error().what);
  CHECK(cluster::effective_json(*again) == loaded->effective_json);
  CHECK(again->limits.batch_max == 7);
  CHECK(again->drills);
  CHECK(again->model_path == loaded->spec.model_path);
  CHECK(loaded->digest.size() == 16);
}

TEST_CASE("the digest is that of the values: comments, order and written defaults do not change it") {
  const auto plain = read_spec_text(with(""), "/srv/reader.json");
  const auto spelled =
      read_spec_text(with(R"(, /* as it is anyway */ "limits": { "batch_max": 32 })"), "/srv/reader.json");
  const auto other = read_spec_text(with(R"(, "limits": { "batch_max": 33 })"), "/srv/reader.json");
  REQUIRE((plain && spelled && other));
  CHECK(plain->digest == spelled->digest);
  CHECK(plain->digest != other->digest);
}

TEST_CASE("an unknown key is an error with line, column and the nearest key") {
  CHECK(problem_of("{ \"troupe\": 1, \"name\": \"a\", \"model\": {\"path\": \"m\"}, \"pools\": {\n"
                   "  \"all\": { \"role\": \"all\" },\n"
                   "  \"more\": { \"role\": \"all\", \"tensor_paralel\": 2 } } }") ==
        "reader.json:3:28: unknown key 'tensor_paralel' in pools.more; did you mean 'tensor_parallel'?");
  CHECK(problem_of(with(", \"limts\": {}")) == "reader.json:5:42: unknown key 'limts'; did you mean 'limits'?");
  CHECK(problem_of(with(", \"restart\": { \"speed\": 1 }")) ==
        "reader.json:5:55: unknown key 'speed' in restart; valid here: encode, prefill, decode, intensity, window_s");
}

TEST_CASE("a value of another type or outside its range says what would be valid") {
  struct wrong {
    const char* extra;
    const char* says;
  };
  for (const auto& [extra, says] : {
           wrong{R"(, "limits": { "batch_max": "many" })",
                 "limits.batch_max is a whole number from 1 to 4096, not \"many\""},
           wrong{R"(, "limits": { "batch_max": 0 })", "limits.batch_max is a whole number from 1 to 4096, not 0"},
           wrong{R"(, "limits": { "batch_max": -3 })", "limits.batch_max is a whole number from 1 to 4096, not -3"},
           wrong{R"(, "limits": { "batch_max": 1.5 })", "not 1.5"},
           wrong{R"(, "limits": { "batch_max": null })", "not null"},
           wrong{R"(, "limits": [1])", "limits is an object, not a list"},
           wrong{R"(, "drills": 1)", "drills is true or false, not 1"},
           wrong{R"(, "program": 1)", "program is a text, not 1"},
           wrong{R"(, "program": "stream")", "program is one of serve, not \"stream\""},
           wrong{R"(, "lanes": { "control": "udp" })", "lanes.control is one of auto, shared_memory, tcp, not \"udp\""},
           wrong{R"(, "device": "tpu")", "device is cpu, cuda, or cuda: and a number, not \"tpu\""},
           wrong{R"(, "device": "cuda:x")", "device is cpu, cuda, or cuda: and a number, not \"cuda:x\""},
           wrong{R"(, "drills": true, "drills": false)", "'drills' is written twice, first in line 5"},
       }) {
    CAPTURE(extra);
    CHECK(problem_of(with(extra)).find(says) != std::string::npos);
  }
}

TEST_CASE("what is missing is named") {
  const auto all = problem_of("{}");
  for (const auto* key : {"'troupe' is missing", "'name' is missing", "'pools' is missing"})
    CHECK(all.find(key) != std::string::npos);
  CHECK(problem_of(R"({ "troupe": 1, "name": "a", "model": {"path": "m"}, "pools": { "p": { "cells": 1 } } })")
            .find("'pools.p.role' is missing") != std::string::npos);
  CHECK(problem_of(R"({ "troupe": 1, "name": "a", "pools": { "p": { "role": "all" } } })")
            .find("model.path is needed by every role but stub") != std::string::npos);
  CHECK(problem_of(R"({ "troupe": 2, "name": "a", "pools": { "p": { "role": "stub" } } })") ==
        "reader.json:1:13: troupe is 1 in this build, not 2");
}

TEST_CASE("J8: timeouts whose order does not hold are refused by the rule's name") {
  struct wrong {
    const char* extra;
    const char* says;
  };
  for (const auto& [extra, says] : {
           wrong{
               R"(, "timeouts": { "suspect_ms": 100 })",
               "reader.json:5:56: timeouts.suspect_ms (100) must be above timeouts.heartbeat_ms (200) [timeouts-rise]"},
           wrong{R"(, "timeouts": { "kill_ms": 1000 })",
                 "timeouts.kill_ms (1000) must be above timeouts.suspect_ms (1000)"},
           wrong{R"(, "timeouts": { "drain_ms": 900 })",
                 "timeouts.drain_ms (900) must be above timeouts.kill_ms (2000)"},
           wrong{R"(, "timeouts": { "room_ms": 9000 })",
                 "timeouts.room_ms (9000) must be above timeouts.transfer_ms (10000)"},
           wrong{R"(, "timeouts": { "kill_ms": 9000, "drain_ms": 10000, "supervisor_ms": 10000, "start_ms": 60000,
                                   "transfer_ms": 1000, "room_ms": 2000, "collective_ms": 3000, "request_ms": 9000 })",
                 "timeouts.request_ms (9000) must be above timeouts.kill_ms (9000) [inner-before-outer]"},
           wrong{
               R"(, "timeouts": { "start_ms": 14000 })",
               "timeouts.start_ms (14000) must be above 14000: with timeouts.kill_ms (2000) ranks that stay are given "
               "so long to admit one that was restarted [inner-before-outer]"},
           wrong{R"(, "timeouts": { "transfer_ms": 10001 })", "a whole number from 10 to 10000"},
           wrong{R"(, "limits": { "kv_tokens_max": 1000 })", "must be a multiple of 16; nearest: 1008 [whole-blocks]"},
           wrong{R"(, "lanes": { "tcp_port": 65535 }, "pools2": {})", "unknown key 'pools2'"},
       }) {
    CAPTURE(extra);
    CHECK(problem_of(with(extra)).find(says) != std::string::npos);
  }
}

TEST_CASE("all problems are reported, one line each, twenty at most") {
  const auto two = problem_of(with(R"(, "limts": {}, "limits": { "batch_max": 0 })"));
  CHECK(std::ranges::count(two, '\n') == 1);

  std::string many = ", \"limits\": {";
  for (int i = 0; i < 30; ++i)
    many += (i > 0 ? ", " : "") + ("\"unknown_" + std::to_string(i)) + "\": 0";
  const auto capped = problem_of(with(many + "}"));
  CHECK(std::ranges::count(capped, '\n') == 20);
  CHECK(capped.ends_with("reader.json: and 10 more"));
}

TEST_CASE("text that is no JSON is an error with its line and column, whatever it is") {
  CHECK(problem_of("{ \"troupe\": 1,\n  \"name\" \"reader\" }").starts_with("reader.json:2:"));
  CHECK(problem_of("").starts_with("reader.json:1:1: "));
  CHECK(problem_of("[1, 2]") == "reader.json:1:1: a spec is an object, not a list");
  CHECK(problem_of("{\"troupe\": 1, \"name\": 99999999999999999999999 }").find("name is a text") != std::string::npos);
  CHECK(problem_of(std::string(70'000, ' ')) == "reader.json:1:1: longer than 64 KiB");
  CHECK(problem_of("{\"a\": " + std::string(100, '[') + std::string(100, ']') + "}").find("nested deeper") !=
        std::string::npos);
  // every truncation of a good spec is refused and none crashes
  const auto good = with("");
  for (std::size_t length = 0; length < good.size(); ++length)
    CHECK_FALSE(problem_of(good.substr(0, length)).empty());
}

TEST_CASE("K6: a document's words stay within the one line of their problem, and are short in it") {
  for (const std::string& words : {std::string{R"("a\nreader.json: valid")"}, std::string{R"("a\u001b[2J")"},
                                   "\"" + std::string(30'000, 'x') + "\"", std::string{"\"\xFF\x1B[2J\""}})
    for (const std::string& text :
         {R"({"troupe": 1, "name": )" + words + "}", R"({"troupe": 1, "name": "reader", "device": )" + words + "}",
          R"({"troupe": 1, "name": "reader", )" + words + ": 1}",
          R"({"troupe": 1, "name": "reader", "pools": {)" + words + R"(: {"role": "stub"}}})"}) {
      INFO(text.substr(0, 100));
      const auto problem = problem_of(text);
      for (std::size_t begin = 0; begin < problem.size();
           begin = std::min(problem.find('\n', begin), problem.size()) + 1) {
        const auto line = problem.substr(begin, problem.find('\n', begin) - begin);
        CHECK(line.starts_with("reader.json:1:"));
        CHECK(line.size() < 500);
        CHECK(std::ranges::none_of(line, [](unsigned char byte) { return byte < ' ' || byte == 0xFF; }));
      }
    }
}

TEST_CASE("places survive escapes, numbers and one-line specs") {
  const auto loaded = read_spec_text(
      "{\"troupe\":1,\"name\":\"a\\u0062\",\"pools\":{\"p\":{\"role\":\"stub\",\"cells\":12}}}", "/x.json");
  REQUIRE_MESSAGE(loaded, loaded.error().what);
  CHECK(loaded->spec.name == "ab");
  CHECK(loaded->written.at("pools") == cluster::text_place{1, 30});
  CHECK(problem_of("{\"troupe\":1,\"name\":\"a\",\"pools\":{\"p\":{\"role\":\"stub\",\"cells\":12345}}}")
            .starts_with("reader.json:1:60: pools.p.cells"));
  CHECK(problem_of("{\"tro\\\"upe\":1}").starts_with("reader.json:1:2: unknown key"));
}

TEST_CASE("a file that cannot be read is one line") {
  const auto missing = cluster::read_spec("/nowhere/reader.json");
  REQUIRE_FALSE(missing);
  CHECK(missing.error().what == "cannot read /nowhere/reader.json: No such file or directory");
  CHECK(cluster::read_spec("/tmp").error().what.find("directory") != std::string::npos);
}
