#include "tests/sim/corpus.hpp"

#include <fmt/format.h>

#include <fstream>
#include <sstream>
#include <system_error>

namespace troupe::sim {

using namespace protocols;

namespace {

constexpr const char* file_name = "schedules";

std::string options_line(const schedule_options& each) {
  auto line = fmt::format("ranks {} questions {}", each.ranks_max, each.questions_max);
  if (each.calm)
    line += " calm";
  if (each.spec)
    line += " spec " + each.spec->name;
  return line;
}

} // namespace

result<corpus> corpus::open(const std::filesystem::path& folder, const schedule_options& each) {
  corpus out;
  out.folder_ = folder;
  out.options_ = options_line(each);
  out.next_seed_ = each.seed;
  std::ifstream in{folder / file_name};
  if (!in)
    return out;
  std::string line;
  std::getline(in, line);
  if (line != out.options_)
    return fail(fault::config_invalid,
                (folder / file_name).string() + " is for '" + line + "', not '" + out.options_ + "'");
  for (std::size_t number = 2; std::getline(in, line); ++number) {
    std::istringstream words{line};
    std::string word;
    kept_schedule one;
    const bool is_next = line.starts_with("next ");
    if (!(is_next ? words >> word >> out.next_seed_ : words >> one.seed >> one.course) || words >> word)
      return fail(fault::config_invalid, fmt::format("{}:{}: '{}'", (folder / file_name).string(), number, line));
    if (!is_next)
      out.kept_.push_back(one);
  }
  return out;
}

result<void> corpus::save(std::vector<kept_schedule> kept, std::uint64_t next_seed) {
  kept_ = std::move(kept);
  next_seed_ = next_seed;
  std::error_code problem;
  std::filesystem::create_directories(folder_, problem);
  const auto file = folder_ / file_name;
  const auto fresh = std::filesystem::path{file}.concat(".new");
  {
    std::ofstream out{fresh};
    out << options_ << "\nnext " << next_seed_ << '\n';
    for (const auto& one : kept_)
      out << one.seed << ' ' << one.course << '\n';
    if (!out.flush())
      return fail(fault::config_invalid, fresh.string() + " cannot be written");
  }
  std::filesystem::rename(fresh, file, problem);
  if (problem)
    return fail(fault::config_invalid, file.string() + ": " + problem.message());
  return {};
}

} // namespace troupe::sim
