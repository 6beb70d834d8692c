#include "gpu/models/templates/template_case.hpp"

#include <algorithm>
#include <span>

namespace troupe::gpu::models::unicode {
namespace {

void append_changed(std::string& out, code_point value, std::span<const case_run> runs,
                    std::span<const case_special> specials) {
  const auto special = std::ranges::lower_bound(specials, value, {}, &case_special::from);
  if (special != specials.end() && special->from == value) {
    for (const code_point each : special->to)
      if (each != 0)
        append_utf8(out, each);
    return;
  }
  const auto run = std::ranges::lower_bound(runs, value, {}, &case_run::last);
  const bool within = run != runs.end() && run->first <= value && (value - run->first) % run->step == 0;
  append_utf8(out, within ? static_cast<code_point>(static_cast<std::int64_t>(value) + run->delta) : value);
}

} // namespace

void append_lower(std::string& out, code_point value) {
  append_changed(out, value, {lower_runs, lower_runs_count}, {lower_specials, lower_specials_count});
}
void append_upper(std::string& out, code_point value) {
  append_changed(out, value, {upper_runs, upper_runs_count}, {upper_specials, upper_specials_count});
}
void append_title(std::string& out, code_point value) {
  append_changed(out, value, {title_runs, title_runs_count}, {title_specials, title_specials_count});
}

} // namespace troupe::gpu::models::unicode
