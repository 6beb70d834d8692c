#include "runtime/base/flight_files.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <optional>
#include <system_error>
#include <tuple>
#include <utility>

#include "runtime/base/regular_file.hpp"

namespace troupe::base {

using namespace protocols;

namespace {

constexpr std::string_view suffix = ".ring";

tl::unexpected<failure> cannot(const std::filesystem::path& file, int why) {
  return fail(fault::config_invalid, "cannot read " + file.string() + ": " + std::strerror(why));
}

/// Each entry of a folder; an iterator's own increment would throw.
template <class Visit>
std::error_code for_each_in(const std::filesystem::path& folder, const Visit& visit) {
  std::error_code problem;
  for (std::filesystem::directory_iterator each{folder, problem}, end; !problem && each != end; each.increment(problem))
    visit(each->path());
  return problem;
}

/// The generation in the name of a record of `rank`, as `flight_file` writes it.
std::optional<generation> generation_in(const std::string& name, rank_id rank) {
  const auto before = "r" + std::to_string(rank.value) + ".g";
  if (!name.starts_with(before) || !name.ends_with(suffix))
    return std::nullopt;
  std::uint32_t born = 0;
  const auto* const end = name.data() + name.size() - suffix.size();
  if (std::from_chars(name.data() + before.size(), end, born).ptr != end)
    return std::nullopt;
  return generation{born};
}

/// Generations are drawn from one counter of the job, so only a look at the folder tells which are there.
void remove_old_flights(const std::filesystem::path& folder, rank_id rank) {
  std::vector<std::pair<generation, std::filesystem::path>> kept;
  for_each_in(folder, [&](const std::filesystem::path& file) {
    if (const auto born = generation_in(file.filename().string(), rank))
      kept.emplace_back(*born, file);
  });
  std::ranges::sort(kept);
  std::error_code ignored; // it cannot be helped here
  for (std::size_t i = 0; i + flight_generations_kept <= kept.size(); ++i)
    std::filesystem::remove(kept[i].second, ignored);
}

result<std::vector<std::byte>> content_of(int opened, const std::filesystem::path& file) {
  struct stat is {};
  if (::fstat(opened, &is) != 0)
    return cannot(file, errno);
  std::vector<std::byte> bytes(
      std::min(static_cast<std::size_t>(is.st_size), flight_file_bytes(flight_records_max) + 1)); // one byte too long
  std::size_t got = 0;
  while (got < bytes.size()) {
    const auto more = ::pread(opened, bytes.data() + got, bytes.size() - got, static_cast<off_t>(got));
    if (more < 0 && errno == EINTR)
      continue;
    if (more < 0)
      return cannot(file, errno);
    if (more == 0)
      break; // it was cut meanwhile
    got += static_cast<std::size_t>(more);
  }
  bytes.resize(got);
  return bytes;
}

/// A record that a second look finds different was copied while it was being written: it counts as unfinished.
void drop_changed(std::vector<std::byte>& first, const std::vector<std::byte>& second) {
  for (auto at = sizeof(flight_header); at + flight_record_bytes <= std::min(first.size(), second.size());
       at += flight_record_bytes)
    if (std::memcmp(first.data() + at, second.data() + at, flight_record_bytes) != 0)
      std::memset(first.data() + at, 0, sizeof(std::uint64_t));
}

} // namespace

std::filesystem::path flight_file(const std::filesystem::path& folder, rank_id rank, generation born) {
  return folder / ("r" + std::to_string(rank.value) + ".g" + std::to_string(born.value) + std::string{suffix});
}

std::filesystem::path supervisor_flight_file(const std::filesystem::path& folder) {
  return folder / ("supervisor" + std::string{suffix});
}

result<void> open_flight(const std::filesystem::path& folder, const flight_recorder::identity& who,
                         flight_recorder& recorder) {
  const bool of_supervisor = who.rank == supervisor_rank;
  if (!of_supervisor)
    remove_old_flights(folder, who.rank);
  const auto file = of_supervisor ? supervisor_flight_file(folder) : flight_file(folder, who.rank, who.born);
  auto opened = recorder.open(file, who);
  std::error_code ignored; // what a full disk has left of it tells nobody anything
  if (!opened)
    std::filesystem::remove(file, ignored);
  return opened;
}

result<flight_view> flight_view::open(const std::filesystem::path& file) {
  const auto opened = open_regular(file);
  if (!opened)
    return tl::unexpected<failure>{opened.error()};
  struct stat is {};
  if (::fstat(opened->get(), &is) != 0)
    return cannot(file, errno);
  if (static_cast<std::size_t>(is.st_size) < sizeof(flight_header))
    return fail(fault::config_invalid, file.string() + " is no flight record yet");
  auto mapped = mapped_file::map(opened->get(), sizeof(flight_header), mapped_file::access::read);
  if (!mapped)
    return fail(mapped.error().code, file.string() + ": " + mapped.error().what);
  flight_view view{*std::move(mapped)};
  if (std::atomic_ref{const_cast<std::uint64_t&>(view.header().magic)}.load() != flight_magic)
    return fail(fault::config_invalid, file.string() + " is no flight record yet");
  return view;
}

result<flight_story> read_flight_file(const std::filesystem::path& file) {
  const auto opened = open_regular(file);
  if (!opened)
    return tl::unexpected<failure>{opened.error()};
  auto first = content_of(opened->get(), file);
  if (!first)
    return tl::unexpected<failure>{first.error()};
  const auto second = content_of(opened->get(), file);
  if (!second)
    return tl::unexpected<failure>{second.error()};
  drop_changed(*first, *second);
  return read_flight(*first, file.string());
}

result<std::vector<flight_story>> read_flights(const std::filesystem::path& folder,
                                               std::vector<std::string>& problems) {
  std::vector<flight_story> stories;
  const auto problem = for_each_in(folder, [&](const std::filesystem::path& file) {
    if (file.extension() != suffix)
      return;
    if (auto story = read_flight_file(file))
      stories.push_back(*std::move(story));
    else
      problems.push_back(story.error().what);
  });
  if (problem)
    return fail(fault::config_invalid, "cannot read " + folder.string() + ": " + problem.message());
  std::ranges::sort(problems);
  std::ranges::sort(stories, {}, [](const flight_story& story) { return std::tuple{story.rank, story.born}; });
  return stories;
}

} // namespace troupe::base
