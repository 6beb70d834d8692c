#include "tools/troupe/launch.hpp"

#include <filesystem>

namespace troupe::tools {

protocols::result<cluster::supervisor_options> supervisor_options_of(const cluster::loaded_spec& spec,
                                                                     const job_options& job,
                                                                     const std::optional<std::string>& http) {
  const auto root = root_of(job);
  if (!root)
    return tl::unexpected(root.error());
  std::error_code problem;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", problem);
  if (problem)
    return protocols::fail(protocols::fault::config_invalid, "cannot find this program: " + problem.message());
  cluster::supervisor_options options;
  options.spec = spec;
  if (http && *http != spec.spec.http.listen) {
    auto changed = spec.spec;
    changed.http.listen = *http;
    const auto text = cluster::effective_json(changed);
    auto read = cluster::read_spec_text(text, spec.file);
    if (!read)
      return tl::unexpected(read.error());
    options.spec = *std::move(read);
  }
  options.job = job.job.empty() ? spec.spec.name : job.job;
  options.root = *root;
  options.rank_command = {self.string(), "rank"};
  return options;
}

} // namespace troupe::tools
