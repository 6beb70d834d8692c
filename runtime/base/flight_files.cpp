#include "runtime/base/flight_files.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <tuple>

#include "runtime/base/unique_fd.hpp"

namespace troupe::base {

using namespace protocols;

namespace {

constexpr std::string_view suffix = ".ring";

tl::unexpected<failure> cannot(const std::filesystem::path& file, int why) {
  return fail(fault::config_invalid, "cannot read " + file.string() + ": " + std::strerror(why));
}

result<unique_fd> open_to_read(const std::filesystem::path& file) {
  unique_fd opened{::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)};
  struct stat is {};
  if (!opened || ::fstat(opened.get(), &is) != 0)
    return cannot(file, errno);
  if (!S_ISREG(is.st_mode))
    return fail(fault::config_invalid, "cannot read " + file.string() + ": it is no file");
  return opened;
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
  if (who.born.value > flight_generations_kept) {
    std::error_code ignored; // it may never have been made
    std::filesystem::remove(flight_file(folder, who.rank, generation{who.born.value - flight_generations_kept}),
                            ignored);
  }
  return recorder.open(
      who.rank == supervisor_rank ? supervisor_flight_file(folder) : flight_file(folder, who.rank, who.born), who);
}

void flight_view::unmap::operator()(const flight_header* header) const noexcept {
  ::munmap(const_cast<flight_header*>(header), sizeof *header);
}

result<flight_view> flight_view::open(const std::filesystem::path& file) {
  const auto opened = open_to_read(file);
  if (!opened)
    return tl::unexpected<failure>{opened.error()};
  struct stat is {};
  if (::fstat(opened->get(), &is) != 0)
    return cannot(file, errno);
  if (static_cast<std::size_t>(is.st_size) < sizeof(flight_header))
    return fail(fault::config_invalid, file.string() + " is no flight record yet");
  void* const mapped = ::mmap(nullptr, sizeof(flight_header), PROT_READ, MAP_SHARED, opened->get(), 0);
  if (mapped == MAP_FAILED)
    return cannot(file, errno);
  flight_view view{static_cast<const flight_header*>(mapped)};
  if (std::atomic_ref{const_cast<std::uint64_t&>(view.header_->magic)}.load() != flight_magic)
    return fail(fault::config_invalid, file.string() + " is no flight record yet");
  return view;
}

result<flight_story> read_flight_file(const std::filesystem::path& file) {
  const auto opened = open_to_read(file);
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
  std::error_code problem;
  std::vector<flight_story> stories;
  for (const auto& entry : std::filesystem::directory_iterator{folder, problem}) {
    if (entry.path().extension() != suffix)
      continue;
    if (auto story = read_flight_file(entry.path()))
      stories.push_back(*std::move(story));
    else
      problems.push_back(story.error().what);
  }
  if (problem)
    return fail(fault::config_invalid, "cannot read " + folder.string() + ": " + problem.message());
  std::ranges::sort(problems);
  std::ranges::sort(stories, {}, [](const flight_story& story) { return std::tuple{story.rank, story.born}; });
  return stories;
}

} // namespace troupe::base
