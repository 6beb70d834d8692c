// Decides outside protocols: shows; nothing depends on it

#include "runtime/cluster/job_journal.hpp"

namespace troupe::cluster {

using protocols::life_machine;

job_journal::job_journal(const std::filesystem::path& file, std::string prefix, sink on_progress, sink on_log)
    : file_(file), prefix_(std::move(prefix)), on_progress_(std::move(on_progress)), on_log_(std::move(on_log)) {}

void job_journal::rank_line(std::string_view line) {
  file_.line({line});
  file_.flush();
  if (on_log_)
    on_log_(line);
}

void job_journal::note(const std::string& line) {
  file_.line({prefix_, line});
  file_.flush();
  if (shows_ && on_progress_)
    on_progress_(line);
}

void job_journal::tell(const std::string& line) {
  file_.line({prefix_, line});
  file_.flush();
  if (on_progress_)
    on_progress_(line);
}

void job_journal::entered(life_machine::state state, protocols::time_point now) {
  state_ = state;
  next_news_ = now + patience;
  shows_ = state == life_machine::state::killing; // whoever has to be killed is worth a line at once
}

bool job_journal::is_overdue(protocols::time_point now) {
  if (state_ == life_machine::state::ready || state_ == life_machine::state::ended || now < next_news_)
    return false;
  next_news_ = now + patience;
  return shows_ = true;
}

} // namespace troupe::cluster
