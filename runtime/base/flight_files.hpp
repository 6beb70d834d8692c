#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "protocols/flight/flight_ring.hpp"
#include "runtime/base/flight_recorder.hpp"
#include "runtime/base/mapped_file.hpp"

/// The recorder's files of a job: FOLDER/r<rank>.g<generation>.ring and FOLDER/supervisor.ring.
namespace troupe::base {

std::filesystem::path flight_file(const std::filesystem::path& folder, protocols::rank_id rank,
                                  protocols::generation born);
std::filesystem::path supervisor_flight_file(const std::filesystem::path& folder);

/// Opens the recorder of a rank and removes the files of the generations that are kept no longer.
/// Errors: config_invalid; the rank may go on without.
protocols::result<void> open_flight(const std::filesystem::path& folder, const flight_recorder::identity& who,
                                    flight_recorder& recorder = flight());

/// The live state of another process. Threads: any. What a file that has been cut no longer holds reads as zeros.
class flight_view {
public:
  /// Errors: config_invalid (cannot be read, or is no flight record yet).
  static protocols::result<flight_view> open(const std::filesystem::path& file);

  flight_live live() const noexcept { return read_live(header()); }

private:
  explicit flight_view(mapped_file mapped) noexcept : mapped_(std::move(mapped)) {}
  const protocols::flight_header& header() const noexcept {
    return *static_cast<const protocols::flight_header*>(mapped_.at());
  }

  mapped_file mapped_;
};

/// A whole file, also one that is being written: a record that changes meanwhile counts as lost.
/// Errors: config_invalid (cannot be read), and those of `protocols::read_flight`.
protocols::result<protocols::flight_story> read_flight_file(const std::filesystem::path& file);

/// Every story of a folder, by rank and generation, the supervisor's last. A file that cannot be understood is named in
/// `problems` and left out. Errors: config_invalid (no such folder).
protocols::result<std::vector<protocols::flight_story>> read_flights(const std::filesystem::path& folder,
                                                                     std::vector<std::string>& problems);

} // namespace troupe::base
