#include "protocols/flight/flight_ring.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

namespace troupe::protocols {

namespace {

class ring_reader {
public:
  ring_reader(std::span<const std::byte> bytes, std::string_view file) : bytes_(bytes), file_(file) {}

  result<flight_story> read();

private:
  tl::unexpected<failure> bad(fault code, std::size_t offset, const std::string& what) const {
    return fail(code, std::string{file_} + ": " + what + " at offset " + std::to_string(offset));
  }
  result<void> validate_header() const;
  /// Text of at most `size` bytes, ended by a zero or by the field.
  template <std::size_t Size>
  result<std::string> text(const std::array<char, Size>& field, std::size_t offset) const;
  result<void> read_groups(flight_story& out) const;
  result<void> read_threads(flight_story& out) const;
  result<void> read_records(flight_story& out) const;

  std::span<const std::byte> bytes_;
  std::string_view file_;
  flight_header header_{};
};

result<void> ring_reader::validate_header() const {
  if (header_.magic != flight_magic)
    return bad(fault::bad_magic, offsetof(flight_header, magic), "no flight record");
  if (header_.version != flight_version)
    return bad(fault::unknown_version, offsetof(flight_header, version), "version " + std::to_string(header_.version));
  if (header_.header_bytes != sizeof(flight_header))
    return bad(fault::bad_value, offsetof(flight_header, header_bytes),
               "header of " + std::to_string(header_.header_bytes) + " bytes");
  if (header_.record_bytes != flight_record_bytes)
    return bad(fault::bad_value, offsetof(flight_header, record_bytes),
               "records of " + std::to_string(header_.record_bytes) + " bytes");
  if (!std::has_single_bit(header_.capacity) || header_.capacity > flight_records_max)
    return bad(fault::bad_value, offsetof(flight_header, capacity), std::to_string(header_.capacity) + " records");
  if (bytes_.size() != flight_file_bytes(header_.capacity))
    return bad(fault::short_payload, bytes_.size(),
               "ends where " + std::to_string(flight_file_bytes(header_.capacity)) + " bytes were announced");
  for (const auto& [time_ns, offset] : {std::pair{header_.wall_ns, offsetof(flight_header, wall_ns)},
                                        std::pair{header_.steady_ns, offsetof(flight_header, steady_ns)},
                                        std::pair{header_.pulse_ns, offsetof(flight_header, pulse_ns)}})
    if (!is_flight_time(time_ns))
      return bad(fault::bad_value, offset, "time " + std::to_string(time_ns));
  if (header_.groups_count > flight_groups_max)
    return bad(fault::bad_value, offsetof(flight_header, groups_count),
               std::to_string(header_.groups_count) + " groups");
  if (header_.life > static_cast<std::uint64_t>(life_state::failed))
    return bad(fault::bad_value, offsetof(flight_header, life), "life " + std::to_string(header_.life));
  if (header_.words_state > 2)
    return bad(fault::bad_value, offsetof(flight_header, words_state),
               "state of words " + std::to_string(header_.words_state));
  if (header_.words_bytes > header_.words.size())
    return bad(fault::bad_value, offsetof(flight_header, words_bytes),
               std::to_string(header_.words_bytes) + " bytes of words");
  return {};
}

template <std::size_t Size>
result<std::string> ring_reader::text(const std::array<char, Size>& field, std::size_t offset) const {
  const auto end = std::ranges::find(field, '\0');
  const auto control = std::find_if(field.begin(), end, [](char byte) {
    return static_cast<unsigned char>(byte) < ' ' || byte == '\x7f'; // a terminal would obey it
  });
  if (control != end)
    return bad(fault::bad_value, offset + static_cast<std::size_t>(control - field.begin()),
               "byte " + std::to_string(static_cast<unsigned char>(*control)) + " in a text");
  return std::string{field.begin(), end};
}

result<void> ring_reader::read_groups(flight_story& out) const {
  for (std::size_t i = 0; i < header_.groups_count; ++i) {
    const auto& each = header_.groups[i];
    auto label =
        text(each.name, offsetof(flight_header, groups) + i * sizeof each + offsetof(flight_header::group, name));
    if (!label)
      return tl::unexpected<failure>{label.error()};
    out.groups.push_back({group_id{each.id}, *std::move(label), each.entered});
  }
  return {};
}

result<void> ring_reader::read_threads(flight_story& out) const {
  const auto count = std::min<std::uint64_t>(header_.threads_count, flight_threads_max);
  for (std::size_t i = 0; i < count; ++i) {
    const auto& each = header_.threads[i];
    auto what = unpack({static_cast<std::uint64_t>(each.since_ns), each.call, each.item, 0, 0, each.place, each.kind});
    if (!what && each.version % 2 != 0)
      continue; // its process ended in the middle of writing it
    if (!what)
      return bad(fault::bad_value, offsetof(flight_header, threads) + i * sizeof each,
                 what.error().what + " of thread " + std::to_string(i));
    if (!is_flight_time(each.until_ns))
      return bad(fault::bad_value, offsetof(flight_header, threads) + i * sizeof each,
                 "time " + std::to_string(each.until_ns) + " of thread " + std::to_string(i));
    out.activities.push_back({*what, each.until_ns, each.progress});
  }
  return {};
}

result<void> ring_reader::read_records(flight_story& out) const {
  const auto capacity = std::uint64_t{header_.capacity};
  if (header_.next > std::uint64_t{1} << 62)
    return bad(fault::bad_value, offsetof(flight_header, next), "record " + std::to_string(header_.next));
  const auto first = header_.next > capacity ? header_.next - capacity : 0;
  out.records.reserve(static_cast<std::size_t>(header_.next - first));
  for (auto index = first; index < header_.next; ++index) {
    const auto offset = sizeof(flight_header) + flight_record_bytes * static_cast<std::size_t>(index % capacity);
    std::uint64_t sequence = 0;
    flight_words words{};
    std::memcpy(&sequence, bytes_.data() + offset, sizeof sequence);
    std::memcpy(words.data(), bytes_.data() + offset + sizeof sequence, sizeof words);
    if (sequence != 2 * (index + 1))
      continue; // claimed and never finished, or already of the next round
    auto record = unpack(words);
    if (!record)
      return bad(fault::bad_value, offset, record.error().what + " of record " + std::to_string(index));
    out.records.push_back(*record);
  }
  out.lost = header_.next - out.records.size();
  return {};
}

result<flight_story> ring_reader::read() {
  if (bytes_.size() < sizeof header_)
    return bad(fault::short_payload, bytes_.size(), "ends inside its header");
  std::memcpy(&header_, bytes_.data(), sizeof header_);
  flight_story out;
  auto label = validate_header().and_then([&] { return text(header_.label, offsetof(flight_header, label)); });
  if (!label)
    return tl::unexpected<failure>{label.error()};
  auto host = text(header_.host, offsetof(flight_header, host));
  if (!host)
    return tl::unexpected<failure>{host.error()};
  out.rank = rank_id{header_.rank};
  out.born = generation{header_.born};
  out.label = *std::move(label);
  out.host = *std::move(host);
  out.pid = header_.pid;
  out.wall_ns = header_.wall_ns;
  out.steady_ns = header_.steady_ns;
  out.pulse_ns = header_.pulse_ns;
  out.life = static_cast<life_state>(header_.life);
  out.graphs = header_.graphs;
  out.eager = header_.eager;
  if (header_.words_state == 2) {
    auto words = text(header_.words, offsetof(flight_header, words));
    if (!words)
      return tl::unexpected<failure>{words.error()};
    out.words = words->substr(0, header_.words_bytes);
  }
  auto whole = read_groups(out).and_then([&] { return read_threads(out); }).and_then([&] { return read_records(out); });
  if (!whole)
    return tl::unexpected<failure>{whole.error()};
  return out;
}

} // namespace

result<flight_story> read_flight(std::span<const std::byte> bytes, std::string_view file) {
  return ring_reader{bytes, file}.read();
}

} // namespace troupe::protocols
