#pragma once

namespace troupe::base {

/// One visitor of a variant out of a handler for each alternative.
template <class... Handlers>
struct overloaded : Handlers... {
  using Handlers::operator()...;
};
template <class... Handlers>
overloaded(Handlers...) -> overloaded<Handlers...>;

} // namespace troupe::base
