#include "runtime/cluster/build_id.hpp"

#include <array>
#include <fstream>

#include "runtime/base/digest.hpp"

#ifndef TROUPE_VERSION
#error "the build gives TROUPE_VERSION"
#endif

namespace troupe::cluster {

std::string build_id() {
  std::ifstream program{"/proc/self/exe", std::ios::binary};
  base::running_digest digest;
  std::array<char, 1 << 16> piece{};
  while (program.read(piece.data(), piece.size()) || program.gcount() > 0)
    digest.add(std::as_bytes(std::span{piece}.first(static_cast<std::size_t>(program.gcount()))));
  return TROUPE_VERSION "+" + base::hex(digest.value());
}

} // namespace troupe::cluster
