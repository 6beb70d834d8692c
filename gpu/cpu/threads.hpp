#pragma once

namespace troupe::gpu::cpu {

/// Threads that one matrix product of any CPU stream may use; 1 until it is called. Above 1 oneDNN keeps an OpenMP team
/// for each calling thread: set OMP_WAIT_POLICY=passive in the environment of the process, or an idle team spins.
/// Threads: any; holds from the next product of each thread on.
void set_threads(unsigned count) noexcept;

/// Makes the setting hold on the calling thread. OpenMP keeps it for each thread, so that one call at start would not
/// reach the executors.
void apply_threads() noexcept;

} // namespace troupe::gpu::cpu
