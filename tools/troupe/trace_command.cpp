#include "tools/troupe/trace_command.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "protocols/flight/flight_trace.hpp"
#include "protocols/flight/flight_words.hpp"
#include "runtime/base/clock.hpp"
#include "runtime/base/flight_files.hpp"
#include "runtime/cluster/json_text.hpp"
#include "tools/troupe/commands.hpp"
#include "tools/troupe/job.hpp"
#include "tools/troupe/rank_records.hpp"
#include "tools/troupe/text.hpp"

namespace troupe::tools {
namespace {

using protocols::flight_record;
using protocols::flight_story;
using protocols::flight_trace;

struct trace_options {
  std::string directory;
  job_options job;
  bool first_cause = false;
  bool start = false;
  bool json = false;
  std::size_t last = 40;
};

/// The records of a job, and what else its directory tells of it.
struct evidence {
  std::vector<flight_story> stories;
  std::vector<std::string> problems; ///< files that cannot be understood
  std::optional<job_plan> plan;
  bool running = false;
};

protocols::result<evidence> collect(const cluster::job_record& job) {
  evidence out;
  auto stories = base::read_flights(job.paths.flight_folder(), out.problems);
  if (!stories)
    return tl::unexpected(stories.error());
  out.stories = std::move(*stories);
  protocols::align_clocks(out.stories);
  if (auto plan = plan_of(job)) // a damaged directory is where a trace is wanted most
    out.plan = std::move(*plan);
  out.running = job.running;
  return out;
}

flight_trace trace_of(const evidence& from) {
  const auto now = from.running ? std::optional{base::now().time_since_epoch().count()} : std::nullopt;
  const auto stalled = std::chrono::milliseconds{from.plan ? from.plan->spec.timeouts.kill_ms : 2000};
  return protocols::trace_flight(from.stories, from.plan ? &from.plan->plan : nullptr, now, stalled);
}

struct timeline_entry {
  const flight_story* story;
  const flight_record* record;
};

/// The newest `last` records of all ranks, oldest first.
std::vector<timeline_entry> timeline(const std::vector<flight_story>& stories, std::size_t last) {
  std::vector<timeline_entry> all;
  for (const auto& story : stories)
    for (const auto& record : story.records)
      all.push_back({&story, &record});
  std::ranges::stable_sort(all, {}, [](const timeline_entry& entry) { return entry.record->time_ns; });
  all.erase(all.begin(), all.end() - static_cast<std::ptrdiff_t>(std::min(last, all.size())));
  return all;
}

std::string name_of(const flight_story& story) {
  return story.rank == protocols::supervisor_rank ? std::string{"supervisor"}
                                                  : fmt::format("{}:{}", story.rank.value, story.label);
}

/// "05:23:17.204113  2:prefill.0/t1  begin  all_reduce_sum of group prefill.0, call 17, phase prefill  64".
void print_timeline(const evidence& from, const trace_options& options) {
  const palette colours{STDOUT_FILENO};
  table lines{{{"time (UTC)"}, {"rank"}, {""}, {"what"}, {"amount", table::side::right}}};
  for (const auto& [story, record] : timeline(from.stories, options.last)) {
    const auto wall_ns = record->time_ns + from.stories.front().wall_ns - from.stories.front().steady_ns;
    const auto seconds = static_cast<std::time_t>(wall_ns / 1'000'000'000);
    auto what = protocols::describe(*record, story->groups);
    if (const auto code = protocols::fault_from(record->outcome))
      what += fmt::format(", left by {}", protocols::name(*code));
    lines.add({fmt::format("{:%H:%M:%S}.{:06}", fmt::gmtime(seconds), wall_ns / 1000 % 1'000'000), name_of(*story),
               record->moment == protocols::flight_moment::point ? "" : std::string{protocols::name(record->moment)},
               std::move(what), record->amount == 0 ? "" : std::to_string(record->amount)});
  }
  print("{}", lines.text(colours));
}

nlohmann::ordered_json as_json(const flight_record& record) {
  nlohmann::ordered_json out{{"time_ns", record.time_ns},
                             {"action", protocols::name(record.action)},
                             {"moment", protocols::name(record.moment)}};
  const auto operation = protocols::operation_name(record.action, record.operation);
  if (!operation.empty())
    out["operation"] = operation;
  if (record.phase != protocols::flight_phase::none)
    out["phase"] = protocols::name(record.phase);
  if (record.call != protocols::call_id{})
    out["call"] = record.call.value;
  if (record.group != protocols::no_group)
    out["group"] = record.group.value;
  if (record.peer != protocols::no_peer)
    out["peer"] = record.peer.value;
  for (const auto& [key, value] : {std::pair{"number", std::uint64_t{record.number}}, std::pair{"item", record.item},
                                   std::pair{"epoch", record.epoch.value}, std::pair{"amount", record.amount}})
    if (value != 0)
      out[key] = value;
  if (const auto code = protocols::fault_from(record.outcome))
    out["outcome"] = protocols::name(*code);
  return out;
}

void print_json_lines(const evidence& from, const trace_options& options) {
  for (const auto& [story, record] : timeline(from.stories, options.last)) {
    nlohmann::ordered_json line{
        {"rank", story->rank.value}, {"label", story->label}, {"generation", story->born.value}};
    line.update(as_json(*record));
    print("{}\n", cluster::text_of(line));
  }
}

void print_json(const flight_trace& found) {
  nlohmann::ordered_json out{{"first", nullptr},
                             {"cause", found.cause},
                             {"recoveries", nlohmann::ordered_json::array()},
                             {"ranks", nlohmann::ordered_json::array()}};
  if (found.first)
    out["first"] = found.first->value;
  for (const auto& each : found.recoveries)
    out["recoveries"].push_back({{"generation", each.born.value}, {"first", each.first.value}, {"text", each.text}});
  for (const auto& line : found.ranks) {
    nlohmann::ordered_json one{{"rank", line.rank.value},
                               {"label", line.label},
                               {"host", line.host},
                               {"recorded", line.recorded},
                               {"generation", line.born.value},
                               {"in", as_json(line.in.what)},
                               {"since_ms", static_cast<double>(line.lasted_ns) / 1e6}};
    auto& waits = one["waits_for"] = nlohmann::ordered_json::array();
    for (const auto rank : line.waits_for)
      waits.push_back(rank.value);
    if (line.end)
      one["end"] = as_json(*line.end);
    one["words"] = line.words;
    one["text"] = line.text;
    out["ranks"].push_back(std::move(one));
  }
  print("{}\n", cluster::text_of(out));
}

/// A directory that was named, or the job's.
protocols::result<cluster::job_record> job_to_trace(const trace_options& options) {
  if (options.directory.empty())
    return choose_job(options.job, true);
  const auto path = std::filesystem::absolute(options.directory).lexically_normal();
  const auto folder = path.has_filename() ? path : path.parent_path();
  auto known = cluster::list_jobs(folder.parent_path());
  if (known)
    for (auto& job : *known)
      if (job.paths.directory == folder)
        return std::move(job);
  cluster::job_record job; // a copy of one, brought here to be looked at
  job.name = folder.filename().string();
  job.paths = {folder};
  return job;
}

int trace(const trace_options& options) {
  const auto job = job_to_trace(options);
  if (!job)
    return complain(exit_code_of(job.error().code), job.error().what);
  const auto from = collect(*job);
  if (!from)
    return complain(exit_code_of(from.error().code), from.error().what);
  for (const auto& problem : from->problems)
    complain(base::exit_code::config, problem);
  if (from->stories.empty())
    return complain(base::exit_code::config,
                    fmt::format("no flight record in {}", job->paths.flight_folder().string()));
  if (options.start) {
    print("{}", start_table(protocols::starts_of(from->stories)).text(palette{STDOUT_FILENO}));
    return static_cast<int>(base::exit_code::done);
  }
  if (!options.first_cause) {
    if (options.json)
      print_json_lines(*from, options);
    else
      print_timeline(*from, options);
    return static_cast<int>(base::exit_code::done);
  }
  const auto found = trace_of(*from);
  if (options.json)
    print_json(found);
  else
    print("{}{}", found.text(), found.cause.empty() ? "" : found.cause + '\n');
  return static_cast<int>(base::exit_code::done);
}

} // namespace

failure_report report_failure(const cluster::job_paths& paths, const std::string& verdict) {
  cluster::job_record job;
  job.paths = paths;
  failure_report out{fmt::format("logs of the ranks: {}\n", (paths.directory / "logs").string()), verdict};
  const auto from = collect(job);
  if (!from || from->stories.empty())
    return out;
  const auto found = trace_of(*from);
  out.block += fmt::format("what they were in, from: troupe trace {}\n{}", paths.directory.string(), found.text());
  if (found.beyond_verdict)
    out.cause = found.cause;
  return out;
}

void add_trace(CLI::App& troupe, action& chosen) {
  auto* command = troupe.add_subcommand("trace", "print what the ranks of a job did last, and who failed first");
  auto options = std::make_shared<trace_options>();
  command->add_option("RUN_DIR", options->directory, "the directory of a job, also of one that has ended")
      ->type_name("");
  add_job_options(*command, options->job);
  command->add_flag("--first-cause", options->first_cause,
                    "who failed first, what each rank was in, who waited for whom");
  command->add_flag("--start", options->start, "where each rank's time from its launch to ready went, in ms")
      ->excludes("--first-cause");
  command->add_option("--last", options->last, "print this many records; default 40")
      ->type_name("N")
      ->check(CLI::Range(1, 1'000'000'000).description(""));
  command->add_flag("--json", options->json, "one JSON object, or one for each record");
  command->footer(R"(Examples:
  troupe trace --job reader --first-cause
  troupe trace --job reader --start
  troupe trace /run/user/1000/troupe/reader --last 200

Ranks note what they do in the job's directory, which stays until the next job of its name is started.
Exit codes: 0 done, 2 usage, 3 no record can be read, 4 no such job.)");
  command->callback([options, &chosen] { chosen = [options] { return trace(*options); }; });
}

} // namespace troupe::tools
