#pragma once

#include <array>

#include "protocols/cluster/program.hpp"

/// What flight records call the actors of `serve` and the phases of its steps. Numbers stand in files: append only.
namespace troupe::protocols {

namespace serve_actor {
inline constexpr actor_kind front{0};
inline constexpr actor_kind ingest{1}; ///< shares questions out among readers
inline constexpr actor_kind reader{2}; ///< reads pictures and prompts; item: the question's tag
inline constexpr actor_kind encode{3};
inline constexpr actor_kind prefill{4};
inline constexpr actor_kind decode{5};
} // namespace serve_actor

namespace serve_phase {
inline constexpr flight_phase vote{3};
inline constexpr flight_phase encode{4};
inline constexpr flight_phase prefill{5};
inline constexpr flight_phase decode{6};
} // namespace serve_phase

inline constexpr std::array serve_actors{
    actor_row{serve_actor::front, "front"},     actor_row{serve_actor::ingest, "ingest"},
    actor_row{serve_actor::reader, "reader"},   actor_row{serve_actor::encode, "encode"},
    actor_row{serve_actor::prefill, "prefill"}, actor_row{serve_actor::decode, "decode"},
};
inline constexpr std::array serve_phases{
    phase_row{serve_phase::vote, "vote"},
    phase_row{serve_phase::encode, "encode"},
    phase_row{serve_phase::prefill, "prefill"},
    phase_row{serve_phase::decode, "decode"},
};

} // namespace troupe::protocols
