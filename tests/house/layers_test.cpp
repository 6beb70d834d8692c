#include <array>
#include <optional>

#include "tests/house/source_tree.hpp"

using namespace troupe::house;

namespace {

/// From the lowest to the highest.
constexpr std::array<std::string_view, 10> layers{"protocols/", "runtime/base/", "runtime/door/",    "fabric/",
                                                  "gpu/",       "actors/",       "runtime/cluster/", "runtime/embed/",
                                                  "tests/sim/", "tools/"};

/// Tests may know everything.
std::optional<std::size_t> height(std::string_view path) {
  if (path.ends_with("_test.cpp"))
    return std::nullopt;
  for (std::size_t i = 0; i < layers.size(); ++i)
    if (path.starts_with(layers[i]))
      return i;
  return std::nullopt;
}

struct include_line {
  std::size_t offset;
  std::string target;
  bool quoted;
};

std::vector<include_line> includes_of(const source_file& file) {
  std::vector<include_line> found;
  constexpr std::string_view mark = "#include";
  for (auto i = file.code.find(mark); i != std::string::npos; i = file.code.find(mark, i + 1)) {
    const auto open = file.text.find_first_of("\"<", i);
    if (open == std::string::npos)
      break;
    const bool quoted = file.text[open] == '"';
    const auto close = file.text.find(quoted ? '"' : '>', open + 1);
    found.push_back({i, file.text.substr(open + 1, close - open - 1), quoted});
  }
  return found;
}

findings upward_includes(const source_file& file) {
  findings found;
  const auto own = height(file.path);
  if (!own)
    return found;
  for (const auto& line : includes_of(file)) {
    const auto other = height(line.target);
    if (line.quoted && !other)
      found.push_back(at(file, line.offset, "\"" + line.target + "\" is not written from the root, or is no layer"));
    else if (other && *other > *own)
      found.push_back(at(file, line.offset, "includes upward: " + line.target));
  }
  return found;
}

findings impure_includes(const source_file& file) {
  static constexpr std::array<std::string_view, 34> pure{
      "algorithm",   "array",   "bit",     "charconv", "chrono",  "cmath",          "compare",
      "concepts",    "cstddef", "cstdint", "cstring",  "deque",   "functional",     "initializer_list",
      "iterator",    "limits",  "list",    "map",      "memory",  "numeric",        "optional",
      "queue",       "ranges",  "set",     "span",     "string",  "string_view",    "tuple",
      "type_traits", "utility", "variant", "vector",   "version", "tl/expected.hpp"};
  findings found;
  if (!file.under("protocols/"))
    return found;
  for (const auto& line : includes_of(file)) {
    const bool digest = line.target == "xxhash.h" &&
                        (file.path == "protocols/wire/frame.cpp" || file.path == "protocols/serve/prompt_digest.cpp");
    const bool unwinding = line.target == "exception" && file.path == "protocols/invariant.hpp";
    if (!line.quoted && !digest && !unwinding && std::ranges::find(pure, line.target) == pure.end())
      found.push_back(at(file, line.offset, "<" + line.target + "> does not belong into a pure machine"));
  }
  constexpr std::string_view clock = "::now(";
  for (auto i = file.code.find(clock); i != std::string::npos; i = file.code.find(clock, i + 1))
    found.push_back(at(file, i, "reads a clock"));
  return found;
}

/// What a program that is linked with the library sees: the values of runtime/embed and the standard's.
findings private_includes(const source_file& file) {
  findings found;
  if (!file.under("runtime/embed/") || !file.is_header())
    return found;
  for (const auto& line : includes_of(file)) {
    const bool known = line.quoted
                           ? line.target.starts_with("runtime/embed/")
                           : line.target == "tl/expected.hpp" || line.target.find_first_of("./") == std::string::npos;
    if (!known)
      found.push_back(at(file, line.offset, line.target + " is not the library's to show"));
  }
  return found;
}

} // namespace

TEST_CASE("an include never points to a higher layer") {
  report(over_all(upward_includes),
         "A lower layer that knows a higher one can neither be tested nor reused without it. The order is protocols <- "
         "runtime/base <- runtime/door <- fabric <- gpu <- actors <- runtime/cluster <- runtime/embed <- tests/sim, "
         "the simulator <- "
         "tools.");
}

TEST_CASE("the rule of layers finds what is planted") {
  CHECK(upward_includes(read_cpp("fabric/x.cpp", "#include \"actors/link.hpp\"\n")).size() == 1);
  CHECK(upward_includes(read_cpp("runtime/base/x.hpp", "\n#include \"runtime/cluster/spec_file.hpp\"\n")) ==
        findings{"runtime/base/x.hpp:2: includes upward: runtime/cluster/spec_file.hpp"});
  CHECK(upward_includes(read_cpp("gpu/x.cpp", "#include \"group.hpp\"\n")).size() == 1);
  CHECK(upward_includes(read_cpp("protocols/x.cpp", "#include \"tests/rig.hpp\"\n")).size() == 1);
  CHECK(upward_includes(read_cpp("gpu/x.cpp", "#include \"gpu/group.hpp\"\n#include \"fabric/lanes/lane.hpp\"\n"))
            .empty());
  CHECK(upward_includes(read_cpp("gpu/x.cpp", "// #include \"actors/link.hpp\"\n")).empty());
}

TEST_CASE("protocols is pure: no clock, thread, randomness, I/O or unordered container") {
  report(over_all(impure_includes),
         "The simulator and the actors step the same machines; what a machine does may depend on its state and on its "
         "arguments alone, in a deterministic order.");
}

TEST_CASE("the rule of purity finds what is planted") {
  for (const auto* bad : {"thread", "mutex", "iostream", "random", "fstream", "unordered_map", "atomic", "xxhash.h",
                          "spdlog/spdlog.h", "caf/all.hpp"})
    CHECK_MESSAGE(impure_includes(read_cpp("protocols/x.cpp", std::string("#include <") + bad + ">\n")).size() == 1,
                  bad);
  CHECK(impure_includes(read_cpp("protocols/x.cpp", "auto t = clock::now();\n")).size() == 1);
  CHECK(impure_includes(read_cpp("protocols/wire/frame.cpp", "#include <xxhash.h>\n#include <vector>\n")).empty());
  CHECK(impure_includes(read_cpp("actors/x.cpp", "#include <thread>\n")).empty());
}

TEST_CASE("what users of the library include names no type of machines, wire or actors") {
  report(over_all(private_includes),
         "Programs are written against runtime/embed; they must not change when a message, a lane or CAF does.");
}

TEST_CASE("the rule of the library's headers finds what is planted") {
  for (const auto* bad : {"\"protocols/fault.hpp\"", "\"fabric/lanes/lane.hpp\"", "\"runtime/base/clock.hpp\"",
                          "<caf/all.hpp>", "<sys/socket.h>", "<nlohmann/json.hpp>"})
    CHECK_MESSAGE(private_includes(read_cpp("runtime/embed/x.hpp", std::string("#include ") + bad + "\n")).size() == 1,
                  bad);
  CHECK(private_includes(read_cpp("runtime/embed/x.hpp", "#include <vector>\n#include <tl/expected.hpp>\n"
                                                         "#include \"runtime/embed/error.hpp\"\n"))
            .empty());
  CHECK(private_includes(read_cpp("runtime/embed/x.cpp", "#include \"protocols/fault.hpp\"\n")).empty());
}
