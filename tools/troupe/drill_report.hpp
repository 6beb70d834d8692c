#pragma once

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "protocols/fault.hpp"
#include "tools/troupe/drill_run.hpp"

namespace troupe::tools {

/// A table for people: what every drill gave, then why those that did not pass did not.
void print_drills(const std::vector<drill_result>& results);

nlohmann::ordered_json as_json(const drill_result& result);
/// Errors: config_invalid.
protocols::result<drill_result> drill_result_from(const nlohmann::ordered_json& json);

/// Results by the name of their drill, a JSON line each, appended as they come: what `--resume` goes on from.
/// A line that was cut off by the end of its writer is passed over.
class drill_summary {
public:
  /// Reads what is there. Errors: config_invalid (not readable, not writable).
  static protocols::result<drill_summary> open(const std::string& file);

  const drill_result* find(const std::string& name) const;
  void add(const drill_result& result);

private:
  explicit drill_summary(std::string file) : file_(std::move(file)) {}
  std::string file_;
  std::map<std::string, drill_result> known_;
};

} // namespace troupe::tools
