#pragma once

#include "protocols/wire/frame.hpp"

/// The messages of `serve` by number. Numbers are append-only; the hundreds digit is the family.
namespace troupe::protocols::serve_type {

// work
inline constexpr message_type submit{300};
inline constexpr message_type encode{301};
inline constexpr message_type tokens{303};
inline constexpr message_type timing{304};
// the memory of one request
inline constexpr message_type reserve_kv{400};
inline constexpr message_type reserve_rows{401};
inline constexpr message_type reserve_blocks{402};
inline constexpr message_type grant_rows{403};
inline constexpr message_type grant_blocks{404};
inline constexpr message_type grant_pixels{405};
inline constexpr message_type arrived{406};
inline constexpr message_type kv_sent{407};
inline constexpr message_type handover{408};
inline constexpr message_type release{409};
inline constexpr message_type revoke_rows{410};
inline constexpr message_type revoke_blocks{411};
inline constexpr message_type pixels_returned{412};
inline constexpr message_type rows_returned{413};
inline constexpr message_type blocks_returned{414};
inline constexpr message_type rows_quiet{415};
inline constexpr message_type blocks_quiet{416};
// ends of a request
inline constexpr message_type ack{502};
inline constexpr message_type nack{503};
inline constexpr message_type cancel{504};
// clients of the front
inline constexpr message_type ask{600};
inline constexpr message_type picture_chunk{601};
inline constexpr message_type accepted{602};
inline constexpr message_type answer{603};
inline constexpr message_type finished{604};
inline constexpr message_type refused{605};
inline constexpr message_type withdraw{606};

} // namespace troupe::protocols::serve_type
