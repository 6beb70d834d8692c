#pragma once

namespace troupe::base {

/// Version, and digest of the sources and of the compiler with its flags: "0.1.0+2f6c09d1a4b7e358". What was built
/// together has the same, in whichever file of the installation it stands; `cluster::build_id` is that of one program's
/// bytes and differs from that of its plug-ins. Contract: G8.
const char* build_stamp() noexcept;

} // namespace troupe::base
