#pragma once

#include "protocols/drill/injection_points.hpp"

/// Where a drill can strike in `serve`.
namespace troupe::protocols {

inline constexpr std::array serve_fault_points{
    fault_point{"front.idle", drill_phase::idle, "A tick of the front."},
    fault_point{"front.preflight", drill_phase::preflight, "A question has come."},
    fault_point{"front.ingesting", drill_phase::preflight,
                "A whole question is decoded and tokenised next, on a thread of its own."},
    fault_point{"front.submitted", drill_phase::header, "A request was accepted and its messages were sent."},
    fault_point{"front.pixels_posted", drill_phase::payload, "A picture is on its way to an encode rank."},
    fault_point{"front.emitted", drill_phase::emitted, "A token was sent to its client."},
    fault_point{"encode.idle", drill_phase::idle, "A tick of an encode leader."},
    fault_point{"encode.preflight", drill_phase::preflight, "An order to encode was read."},
    fault_point{"encode.stepping", drill_phase::header, "The tower is run next."},
    fault_point{"encode.rows_posted", drill_phase::payload, "Embeddings are on their way to a prefill rank."},
    fault_point{"encode.delivered", drill_phase::emitted, "A write of embeddings has ended."},
    fault_point{"prefill.idle", drill_phase::idle, "A tick of a prefill rank."},
    fault_point{"prefill.preflight", drill_phase::preflight,
                "A request, or the order to keep room for its pictures, was read."},
    fault_point{"prefill.blocks_posted", drill_phase::payload, "Keys and values are on their way to a decode rank."},
    fault_point{"prefill.delivered", drill_phase::emitted, "A write of keys and values has ended."},
    fault_point{"decode.idle", drill_phase::idle, "A tick of a decode rank."},
    fault_point{"decode.preflight", drill_phase::preflight, "The order to keep room for a request was read."},
    fault_point{"decode.arrived", drill_phase::payload, "Keys and values have arrived."},
    fault_point{"decode.emitted", drill_phase::emitted, "A step's tokens were sent to the front."},
    fault_point{"executor.announced", drill_phase::header, "A leader has announced a step and not begun it."},
    fault_point{"executor.planned", drill_phase::header, "A member has read the plan of a step and not begun it."},
};

} // namespace troupe::protocols
