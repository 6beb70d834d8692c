#include "runtime/cluster/spec_keys.hpp"

#include "protocols/cluster/program.hpp"
#include "runtime/cluster/key_makers.hpp"

namespace troupe::cluster {
namespace {

using protocols::bulk_lane;
using protocols::cluster_spec;
using protocols::control_lane;
using protocols::element_type;
using protocols::pool_spec;
using protocols::role_kind;

cluster_key version_key() {
  cluster_key key;
  key.name = "troupe";
  key.description = "Version of the spec's form.";
  key.initial = spec_value{spec_version};
  key.required = true;
  key.least = key.most = spec_version;
  key.set = [](cluster_spec&, const spec_value&) {};
  key.get = [](const cluster_spec&) { return spec_value{spec_version}; };
  return key;
}

cluster_key name_key() {
  auto key = required(entry<cluster_spec>(
      "name", "Name of the job, unless the command line gives another.",
      [](auto&& spec) -> auto& { return spec.name; }));
  key.pattern = job_name_pattern;
  key.pattern_in_words = job_name_in_words;
  return key;
}

#define FIELD(path) TROUPE_FIELD(path)

cluster_key device_key() {
  auto key = entry<cluster_spec>(
      "device", "Where models compute. cuda: ranks take the GPUs in turn; cuda:2: from number 2 on.", FIELD(device));
  key.pattern = "^(cpu|cuda(:[0-9]{1,3})?)$";
  key.pattern_in_words = "cpu, cuda, or cuda: and a number";
  return key;
}

pool_key pool_device_key() {
  auto key = entry<pool_spec>("device", "Where the pool computes, if not where the cluster does.", FIELD(device));
  key.pattern = "^(cluster|cpu|cuda(:[0-9]{1,3})?)$";
  key.pattern_in_words = "cluster, cpu, cuda, or cuda: and a number";
  return key;
}

cluster_key listen_key() {
  auto key = entry<cluster_spec>("listen", "Address and port of the HTTP service that troupe up opens; port 0: any.",
                                 FIELD(http.listen));
  key.pattern = "^$|^([0-9.]{7,15}|\\[[0-9a-fA-F:.]{2,45}\\]):[0-9]{1,5}$";
  key.pattern_in_words = "a numeric address and a port, as 127.0.0.1:8000 or [::1]:8000";
  return key;
}

std::vector<std::string_view> names_of_programs() {
  std::vector<std::string_view> names;
  for (const auto* const each : protocols::programs())
    names.push_back(each->name);
  return names;
}

spec_section settings_of(const protocols::program& program) {
  spec_section section{program.name, "Settings of the program of this name.", {}, program.name};
  for (const auto& row : program.settings) {
    cluster_key key;
    key.name = row.name;
    key.description = row.sentence;
    key.initial = spec_value{row.initial};
    key.least = row.least;
    key.most = row.most;
    key.program = program.name;
    key.set = [path = path_of(program.name, row.name)](cluster_spec& spec, const spec_value& value) {
      spec.settings[path] = std::get<std::uint64_t>(value);
    };
    key.get = [&program, &row](const cluster_spec& spec) { return spec_value{program.setting(spec, row.name)}; };
    section.keys.push_back(std::move(key));
  }
  return section;
}

std::vector<spec_section> make_sections() {
  namespace limits = protocols::limits;
  constexpr std::uint64_t frame_least = limits::picture_chunk_bytes + limits::frame_header_bytes + 64;
  constexpr std::uint64_t quarantine_ms = limits::slot_quarantine.count();
  constexpr std::uint64_t hour_ms = 3'600'000;
  using spec = cluster_spec;

  std::vector<spec_section> sections;
  sections.push_back(
      {"",
       "The cluster.",
       {version_key(), name_key(), choice<spec>("program", names_of_programs(), "What the ranks run.", FIELD(program)),
        device_key(), entry<spec>("drills", "Ranks accept injected faults.", FIELD(drills))}});
  sections.push_back(
      {"model",
       "A published model.",
       {entry<spec>("path", "Folder of the model, relative to the spec file; not needed by stubs.", FIELD(model_path)),
        named<spec, element_type>("dtype", {{"f32", element_type::f32}, {"bf16", element_type::bf16}},
                                  "Element type of the computation; sums are f32 always.", FIELD(model_dtype))}});
  sections.push_back(
      {"limits",
       "Bounds of what is held at once.",
       {whole<spec>("in_flight_max", {1, 65'536}, "Requests accepted and not yet ended.", FIELD(limits.in_flight_max)),
        whole<spec>("frame_bytes_max", {frame_least, limits::frame_bytes_max_highest},
                    "Longest frame between ranks, in bytes.", FIELD(limits.frame_bytes_max)),
        whole<spec>("kv_tokens_max", {limits::kv_block_tokens, 1u << 30}, "KV pool of a rank, in tokens; whole blocks.",
                    FIELD(limits.kv_tokens_max)),
        whole<spec>("batch_max", {1, 4096}, "Sequences of one decode step.", FIELD(limits.batch_max)),
        whole<spec>("row_slots", {1, 4096}, "Embedding slots of a prefill rank.", FIELD(limits.row_slots)),
        whole<spec>("pixel_slots", {1, 4096}, "Picture slots of an encode rank.", FIELD(limits.pixel_slots)),
        whole<spec>("picture_bytes_max", {1024, 1ull << 30}, "Size of a picture file, in bytes.",
                    FIELD(limits.picture_bytes_max)),
        whole<spec>("picture_side_max", {1, 65'535}, "Longer side of a picture, in pixels.",
                    FIELD(limits.picture_side_max)),
        whole<spec>("threads", {1, 1024}, "Threads of the matrix library, a rank.", FIELD(limits.threads))}});
  sections.push_back(
      {"timeouts",
       "Every deadline, in milliseconds.",
       {whole<spec>("heartbeat_ms", {10, hour_ms}, "Between two heartbeats.", FIELD(timeouts.heartbeat_ms)),
        whole<spec>("suspect_ms", {10, hour_ms}, "Silence after which a rank is reported.", FIELD(timeouts.suspect_ms)),
        whole<spec>("kill_ms", {10, hour_ms}, "Silence after which a rank is ended.", FIELD(timeouts.kill_ms)),
        whole<spec>("drain_ms", {10, hour_ms}, "For requests in flight to end, when the cluster stops.",
                    FIELD(timeouts.drain_ms)),
        whole<spec>("progress_ms", {10, hour_ms}, "Computing without completing anything, after which a rank leaves.",
                    FIELD(timeouts.progress_ms)),
        whole<spec>("supervisor_ms", {10, hour_ms}, "Silence of the supervisor after which its ranks leave.",
                    FIELD(timeouts.supervisor_ms)),
        whole<spec>("start_ms", {100, hour_ms}, "From launch until every rank is ready.", FIELD(timeouts.start_ms)),
        whole<spec>("room_ms", {10, hour_ms}, "From a reserved room until its bytes have arrived.",
                    FIELD(timeouts.room_ms)),
        whole<spec>("transfer_ms", {10, quarantine_ms}, "One one-sided write; a failed slot rests as long as the most.",
                    FIELD(timeouts.transfer_ms)),
        whole<spec>("collective_ms", {10, hour_ms}, "One collective of a step.", FIELD(timeouts.collective_ms)),
        whole<spec>("request_ms", {100, 24 * hour_ms}, "From the first frame of a question to its end.",
                    FIELD(timeouts.request_ms))}});
  sections.push_back(
      {"lanes",
       "How bytes go from rank to rank.",
       {named<spec, control_lane>("control",
                                  {{"auto", control_lane::automatic},
                                   {"shared_memory", control_lane::shared_memory},
                                   {"tcp", control_lane::tcp}},
                                  "Typed messages and collectives.", FIELD(lanes.control)),
        named<spec, bulk_lane>("bulk",
                               {{"auto", bulk_lane::automatic},
                                {"shared_memory", bulk_lane::shared_memory},
                                {"fabric", bulk_lane::fabric}},
                               "Tensors.", FIELD(lanes.bulk)),
        entry<spec>("fabric_provider", "libfabric provider of the fabric lane.", FIELD(lanes.fabric_provider)),
        entry<spec>("interface", "Network interface that listeners bind to.", FIELD(lanes.interface)),
        whole<spec>("tcp_port", {0, 65'535}, "First port; rank r listens on tcp_port + r. 0: any free port.",
                    FIELD(lanes.tcp_port))}});
  sections.push_back(
      {"http",
       "The HTTP service of the front; null: none.",
       {listen_key(),
        entry<spec>("models", "Further names that requests may give the model, divided by commas.", FIELD(http.models)),
        entry<spec>("key_file", "File of keys, one a line, of which a request needs one; must be set beyond loopback.",
                    FIELD(http.key_file)),
        entry<spec>("certificate_file", "Certificate chain (PEM) for TLS.", FIELD(http.certificate_file)),
        entry<spec>("private_key_file", "Key (PEM) of the certificate.", FIELD(http.private_key_file)),
        entry<spec>("origins", "Origins of pages that may ask from a browser, divided by commas; *: any.",
                    FIELD(http.origins)),
        whole<spec>("connections_max", {1, 65'536}, "Connections at a time.", FIELD(http.connections_max)),
        whole<spec>("body_bytes_max", {1024, 1ull << 32}, "Size of a request's body, in bytes.",
                    FIELD(http.body_bytes_max))}});
  using protocols::restart_policy;
  // "one" is what an encode pool's "cell" was once called.
  const std::vector<std::pair<std::string_view, restart_policy>> policies{
      {"cell", restart_policy::cell}, {"none", restart_policy::none}, {"one", restart_policy::cell}};
  spec_section restart{"restart", "What is started again when a rank has died.", {}};
  for (const auto* const each : protocols::programs())
    for (const auto& row : each->roles)
      if (row.restarts) {
        restart.keys.push_back(named<spec, restart_policy>(
            row.name, policies,
            "What becomes of a cell of this role.", [number = static_cast<std::size_t>(row.role)](auto&& of) -> auto& {
              return of.restart.of[number];
            }));
        restart.keys.back().program = each->name;
      }
  restart.keys.push_back(
      whole<spec>("intensity", {0, 1000}, "Restarts allowed within the window.", FIELD(restart.intensity)));
  restart.keys.push_back(
      whole<spec>("window_s", {1, 86'400}, "Length of the window, in seconds.", FIELD(restart.window_s)));
  sections.push_back(std::move(restart));
  for (const auto* const each : protocols::programs())
    if (!each->settings.empty())
      sections.push_back(settings_of(*each));
  return sections;
}

std::vector<pool_key> make_pool_keys() {
  using pool = pool_spec;
  std::vector<std::pair<std::string_view, role_kind>> roles;
  for (const auto* const each : protocols::programs())
    for (const auto& row : each->roles)
      roles.emplace_back(row.name, row.role);
  roles.emplace_back(protocols::name(role_kind::stub), role_kind::stub);
  return {required(named<pool, role_kind>("role", std::move(roles), "What each rank of the pool does.", FIELD(role))),
          whole<pool>("cells", {1, 4096}, "Cells that do the same job.", FIELD(cells)),
          whole<pool>("tensor_parallel", {1, 64}, "Ranks that share each layer.", FIELD(tensor_parallel)),
          whole<pool>("pipeline_parallel", {1, 64}, "Stages that the layers are cut into.", FIELD(pipeline_parallel)),
          pool_device_key()};
}

#undef FIELD

} // namespace

const std::vector<spec_section>& spec_sections() {
  static const auto sections = make_sections();
  return sections;
}

const std::vector<pool_key>& pool_keys() {
  static const auto keys = make_pool_keys();
  return keys;
}

std::string path_of(std::string_view section, std::string_view key) {
  return section.empty() ? std::string{key} : std::string{section} + "." + std::string{key};
}

} // namespace troupe::cluster
