#pragma once

#include <array>
#include <cstddef>
#include <span>

namespace troupe::fabric {

/// Shows that its maker knows the job's token, for exactly these words; the token itself is never sent where a stranger
/// may listen. HMAC-SHA256.
/// Contract: K5.
using proof = std::array<std::byte, 32>;

proof prove(const std::array<std::byte, 32>& job_token, std::span<const std::byte> words);

/// The library's first proof takes it some milliseconds: made here, in every rank at once, it does not stand between
/// one edge of the cluster and the next. Its configuration files are not read: no proof depends on them.
void prepare_proofs();

/// Takes the same time wherever the two differ.
bool is_same(const proof& one, const proof& other) noexcept;

} // namespace troupe::fabric
