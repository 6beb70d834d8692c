#pragma once

#include "protocols/ids.hpp"

namespace troupe::protocols {

/// A slot with the generation that makes a late use of it detectable.
struct slot_ref {
  slot_index slot;
  generation lease_generation;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.slot, self.lease_generation);
  }
  bool operator==(const slot_ref&) const = default;
};

} // namespace troupe::protocols
