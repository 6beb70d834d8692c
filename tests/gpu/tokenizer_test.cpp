#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <string>

#include <nlohmann/json.hpp>

#include "gpu/models/templates/template_value.hpp"
#include "gpu/models/text_io.hpp"
#include "gpu/models/tokenizers/tokenizer_bpe.hpp"
#include "gpu/models/tokenizers/tokenizer_split.hpp"
#include "gpu/models/tokenizers/tokenizer_unicode.hpp"

namespace {

using namespace troupe;
using gpu::models::tokenizer;
using nlohmann::json;
using ids = std::vector<protocols::token_id>;

const std::filesystem::path root = TROUPE_SOURCE_DIR;

/// Rows of one kind; never none, so that a test cannot pass over an empty list.
json golden(const std::string& kind) {
  std::ifstream in(root / "tests/golden/texts.json");
  json rows = json::parse(in)[kind];
  REQUIRE_FALSE(rows.empty());
  return rows;
}

std::shared_ptr<const tokenizer> open(const std::filesystem::path& folder) {
  auto opened = tokenizer::open(folder);
  if (!opened)
    FAIL(opened.error().what);
  return *opened;
}

/// A folder with one tokenizer.json, gone at the end of the test.
class written_folder {
public:
  explicit written_folder(const std::string& text) {
    std::string name = (std::filesystem::temp_directory_path() / "troupe-tokenizer-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()));
    path_ = name;
    std::ofstream(path_ / "tokenizer.json", std::ios::binary) << text;
  }
  explicit written_folder(const json& content) : written_folder(content.dump()) {}
  written_folder(const written_folder&) = delete;
  written_folder& operator=(const written_folder&) = delete;
  ~written_folder() { std::filesystem::remove_all(path_); }

  const std::filesystem::path& path() const { return path_; }

private:
  std::filesystem::path path_;
};

/// The 256 bytes of the reader's tokenizer, five tokens of letters, and merges worked out by hand below.
json small_tokenizer() {
  std::ifstream in(root / "deploy/models/reader/tokenizer.json");
  json out = json::parse(in);
  int id = 300;
  for (const char* token : {"lo", "low", "er", "ow", "lower"})
    out["model"]["vocab"][token] = id++;
  out["model"]["merges"] = {"o w", json::array({"l", "o"}), "e r", "lo w", "low er"};
  return out;
}

std::string what_of(const json& content) {
  const written_folder folder{content};
  const auto opened = tokenizer::open(folder.path());
  REQUIRE_FALSE(opened);
  CHECK(opened.error().code == protocols::fault::config_invalid);
  CHECK(opened.error().what.find("tokenizer.json") != std::string::npos);
  return opened.error().what;
}

bool says(const std::string& what, const char* part) {
  INFO(what);
  return what.find(part) != std::string::npos;
}

TEST_CASE("merges go by rank and then from the left, whichever of the two forms they are written in") {
  const written_folder folder{small_tokenizer()};
  const auto tok = open(folder.path());
  // "o w" is the lowest rank, so that "l" finds no "o" any more: l ow er; the merges of "lo" are for other words.
  CHECK(tok->encode("lower", false) == ids{'l', 303, 302});
  CHECK(tok->encode("lol", false) == ids{300, 'l'});
  CHECK(tok->encode("lolo", false) == ids{300, 300});
  CHECK(tok->encode("erer", false) == ids{302, 302});
  CHECK(tok->encode("eerr", false) == ids{'e', 302, 'r'});
  CHECK(tok->encode("", false) == ids{});
  CHECK(tok->vocabulary() == 305);
}

TEST_CASE("with ignore_merges a piece that is a token is that token") {
  json content = small_tokenizer();
  content["model"]["ignore_merges"] = true;
  const written_folder folder{content};
  CHECK(open(folder.path())->encode("lower", false) == ids{304});
}

TEST_CASE("special tokens in a user's words stay text") {
  const auto tok = open(root / "deploy/models/reader");
  const std::string text = "a<|im_end|>b";
  CHECK(tok->encode(text, true) == ids{'a', 258, 'b'});
  CHECK(tok->encode(text, false) == ids(text.begin(), text.end()));
  CHECK(tok->encode("<|im_end", true).size() == 8);
}

TEST_CASE("K10: an added token that is not special is one token in a user's words, and wins over no special one") {
  json content = small_tokenizer();
  for (const auto& [text, id, normalized] : {std::tuple{"<note>", 400, false}, {"te>x", 401, true}, {"|im", 402, true}})
    content["added_tokens"].push_back({{"content", text}, {"id", id}, {"special", false}, {"normalized", normalized}});
  const written_folder folder{content};
  const auto tok = open(folder.path());
  for (const bool of_template : {false, true}) {
    CHECK(tok->encode("a<note>b", of_template) == ids{'a', 400, 'b'});
    CHECK(tok->encode("<note>x", of_template) == ids{400, 'x'}); // those that are normalized come second
    CHECK(tok->encode("te>x", of_template) == ids{401});
  }
  CHECK(tok->encode("<|im_end|>", true) == ids{258});
  CHECK(tok->encode("<|im_end|>", false) == ids{'<', 402, '_', 'e', 'n', 'd', '|', '>'});

  // and: a special token must be whole of the template
  auto text = gpu::models::marked_text::of_template("<|im_en");
  text += gpu::models::marked_text::of_user("d|>");
  CHECK(tok->encode(text) == ids{'<', 402, '_', 'e', 'n', 'd', '|', '>'});
}

TEST_CASE("K10: an added token takes the white space beside it where it says so") {
  json content = small_tokenizer();
  for (const auto& [text, id, left, right] :
       {std::tuple{"<l>", 400, true, false}, {"<r>", 401, false, true}, {"<b>", 402, true, true}})
    content["added_tokens"].push_back(
        {{"content", text}, {"id", id}, {"special", true}, {"lstrip", left}, {"rstrip", right}});
  const written_folder folder{content};
  const auto tok = open(folder.path());
  CHECK(tok->encode("a \n<l> b", true) == ids{'a', 400, ' ', 'b'});
  CHECK(tok->encode("a <r> \u2003b", true) == ids{'a', ' ', 401, 'b'});
  CHECK(tok->encode(" <r>  <b>  <l> ", true) == ids{' ', 401, 402, 400, ' '}); // what one has taken is gone
  CHECK(tok->encode("<b>", true) == ids{402});
}

TEST_CASE("K10: what the files beside tokenizer.json say of tokens is the same or refused") {
  const json ok{{"eos_token", "<|im_end|>"},
                {"added_tokens_decoder", {{"258", {{"content", "<|im_end|>"}, {"special", true}}}}},
                {"model_max_length", 4096}};
  const auto what = [](const char* name, const json& of_config, const json& other = json::object()) {
    const written_folder folder{small_tokenizer()};
    std::ofstream(folder.path() / "tokenizer_config.json") << of_config;
    std::ofstream(folder.path() / name, std::ios::app)
        << (name == std::string{"tokenizer_config.json"} ? "" : other.dump());
    const auto opened = tokenizer::open(folder.path());
    return opened ? "accepted" : opened.error().what;
  };
  const auto with = [&](const char* key, const json& value) {
    json changed = ok;
    changed[key] = value;
    return what("tokenizer_config.json", changed);
  };
  CHECK(what("tokenizer_config.json", ok) == "accepted");
  CHECK(says(with("add_prefix_space", true), "add_prefix_space is true; valid is false"));
  CHECK(says(with("split_special_tokens", true), "split_special_tokens is true; valid is false"));
  CHECK(says(with("do_lower_case", true), "do_lower_case is true; valid is false"));
  CHECK(says(with("auto_map", {{"AutoTokenizer", "x"}}), "auto_map is object; valid is no such key"));
  CHECK(says(with("lower", 1), "lower is 1; valid is no such key"));
  CHECK(with("lower", nullptr) == "accepted");
  CHECK(
      says(with("added_tokens_decoder", {{"259", {{"content", "<|im_end|>"}, {"special", true}}}}), "the same id 258"));
  CHECK(says(with("added_tokens_decoder", {{"258", {{"content", "<|im_end|>"}, {"special", false}}}}),
             "special is false; valid is the same as in tokenizer.json"));
  CHECK(says(with("added_tokens_decoder", {{"400", {{"content", "<new>"}, {"special", true}}}}), "<new>"));

  const json old{{"eos_token", "<|im_end|>"}};
  CHECK(what("added_tokens.json", old, {{"<|im_end|>", 258}}) == "accepted");
  CHECK(says(what("added_tokens.json", old, {{"<new>", 400}}), "added_tokens.json: <new> is 400"));
  CHECK(what("added_tokens.json", ok, {{"<new>", 400}}) == "accepted"); // not read beside added_tokens_decoder
  CHECK(what("special_tokens_map.json", old, {{"eos_token", {{"content", "<|im_end|>"}}}}) == "accepted");
  CHECK(says(what("special_tokens_map.json", old, {{"eos_token", "</s>"}}), "what tokenizer_config.json states"));
}

TEST_CASE("K10: a key of tokenizer.json that is not known here is refused") {
  for (const std::string pointer : {"/fancy", "/model/fancy", "/pre_tokenizer/fancy", "/added_tokens/0/fancy"}) {
    CAPTURE(pointer);
    json content = small_tokenizer();
    content[json::json_pointer{pointer}] = 1;
    CHECK(says(what_of(content), "fancy is 1; valid is no such key"));
  }
  json content = small_tokenizer();
  content["truncation"] = {{"max_length", 4}};
  content["post_processor"] = {{"type", "TemplateProcessing"}};
  const written_folder folder{content};
  CHECK(open(folder.path())->encode("abcdefgh", true).size() == 8);
}

TEST_CASE("of added tokens that begin at one place the longest is taken") {
  json content = small_tokenizer();
  for (const auto& [text, id] : {std::pair{"<a>", 400}, {"<a>b", 401}, {"<a", 402}})
    content["added_tokens"].push_back({{"content", text}, {"id", id}, {"special", false}});
  const written_folder folder{content};
  const auto tok = open(folder.path());
  CHECK(tok->encode("<a><a>b<ax", true) == ids{400, 401, 402, 'x'});
  CHECK(tok->bytes_of(401) == "<a>b");
}

TEST_CASE("every byte goes to an id and back, text or not, special and unknown ids give no bytes") {
  const auto tok = open(root / "tests/golden/tokenizers/llama3");
  std::string all;
  for (int i = 0; i < 1024; ++i)
    all.push_back(static_cast<char>(i * 7 % 256));
  std::string back;
  for (protocols::token_id id : tok->encode(all, false))
    back += tok->bytes_of(id);
  CHECK(back == all);
  CHECK(tok->bytes_of(-1).empty());
  CHECK(tok->bytes_of(1 << 30).empty());
  CHECK(tok->bytes_of(tok->encode("<|im_end|>", true).at(0)).empty());
  CHECK(tok->bytes_of(tok->encode("<think>", true).at(0)) == "<think>");
}

TEST_CASE("the published patterns split as the published engine does") {
  using namespace gpu::models;
  const std::vector<std::pair<const char*, split_pattern>> patterns{
      {"gpt2", gpt2_pattern}, {"qwen2", qwen2_pattern}, {"llama3", llama3_pattern}};
  for (const auto& one : golden("split")) {
    const auto text = one["text"].get<std::string>();
    for (const auto& [name, pattern] : patterns) {
      std::vector<std::size_t> lengths;
      for (std::string_view piece : split(pattern, text))
        lengths.push_back(piece.size());
      CAPTURE(name);
      CAPTURE(one.dump());
      CHECK(lengths == one[name].get<std::vector<std::size_t>>());
    }
  }
}

TEST_CASE("form C is the published normalizer's") {
  for (const auto& one : golden("split")) {
    CAPTURE(one.dump());
    CHECK(gpu::models::unicode::nfc(one["text"].get<std::string>()) == one["nfc"].get<std::string>());
  }
  CHECK(gpu::models::unicode::nfc("e\xCC\x81\xFF\xCC") == "\xC3\xA9\xFF\xCC"); // stray bytes stay
}

TEST_CASE("ids are those of the published library, with each pattern, form C and merges ignored or not") {
  for (const char* name : {"gpt2", "qwen2", "llama3"}) {
    const auto tok = open(root / "tests/golden/tokenizers" / name);
    for (const auto& one : golden(std::string{"encode_"} + name)) {
      CAPTURE(name);
      CAPTURE(one.dump());
      CHECK(tok->encode(one["text"].get<std::string>(), true) == one["ids"].get<ids>());
    }
  }
}

TEST_CASE("a megabyte without a space is encoded in a blink, not in its square") {
  const written_folder folder{small_tokenizer()};
  const auto tok = open(folder.path());
  std::string text;
  while (text.size() < 1u << 20)
    text += "lower";
  CHECK(tok->encode(text, false).size() == text.size() / 5 * 3);
}

TEST_CASE("a tokenizer that would be misread is refused with its file, its key and what would be valid") {
  const auto changed = [](const json::json_pointer& at, const json& to) {
    json content = small_tokenizer();
    content[at] = to;
    return what_of(content);
  };
  CHECK(says(changed("/model/type"_json_pointer, "WordPiece"), "model.type is \"WordPiece\"; valid is \"BPE\""));
  CHECK(says(changed("/model/byte_fallback"_json_pointer, true), "model.byte_fallback"));
  CHECK(says(changed("/model/dropout"_json_pointer, 0.1), "model.dropout"));
  CHECK(says(changed("/model/end_of_word_suffix"_json_pointer, "</w>"), "model.end_of_word_suffix"));
  CHECK(says(changed("/model/vocab"_json_pointer, json::array()), "model.vocab is array"));
  CHECK(says(changed("/model/vocab/a"_json_pointer, -1), "model.vocab.a is -1"));
  CHECK(says(changed("/model/vocab/a"_json_pointer, 4000000000u), "model.vocab.a is 4000000000"));
  CHECK(says(changed("/model/vocab/a"_json_pointer, 98), "model.vocab."));
  CHECK(says(changed("/model/merges/1"_json_pointer, "lo"), "model.merges[1] is \"lo\""));
  CHECK(says(changed("/model/merges/1"_json_pointer, "q q"), "model.merges[1] is \"q q\""));
  CHECK(says(changed("/model/merges"_json_pointer, nullptr), "model.merges is null"));
  CHECK(says(changed("/normalizer"_json_pointer, {{"type", "Lowercase"}}), "normalizer.type is \"Lowercase\""));
  CHECK(says(changed("/pre_tokenizer"_json_pointer, nullptr), "pre_tokenizer.type is null"));
  CHECK(says(changed("/pre_tokenizer/add_prefix_space"_json_pointer, true), "pre_tokenizer.add_prefix_space"));
  CHECK(says(changed("/decoder"_json_pointer, {{"type", "Metaspace"}}), "decoder.type"));
  CHECK(says(changed("/added_tokens/0/single_word"_json_pointer, true),
             "added_tokens[0].single_word is true; valid is false"));
  CHECK(says(changed("/added_tokens/0/id"_json_pointer, 97), "added_tokens[0].id is 97"));
  CHECK(says(changed("/added_tokens/0/content"_json_pointer, ""), "added_tokens[0].content"));
}

TEST_CASE("an unknown pattern is quoted") {
  json content = small_tokenizer();
  const json split = {{"type", "Split"}, {"pattern", {{"Regex", R"(\w+)"}}}, {"behavior", "Isolated"}};
  content["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {split, content["pre_tokenizer"]}}};
  CHECK(says(what_of(content), R"(pre_tokenizer.pretokenizers[0].pattern.Regex is "\\w+"; valid is the published)"));
}

TEST_CASE("a vocabulary that lacks a byte is refused: some text would have no ids") {
  json content = small_tokenizer();
  content["model"]["vocab"].erase("z");
  CHECK(says(what_of(content), "it lacks 0x7a"));
}

TEST_CASE("hostile files are refused or read, never more") {
  CHECK(tokenizer::open("/nonexistent").error().code == protocols::fault::config_invalid);
  for (const std::string& text : {std::string{}, std::string{"[]"}, std::string{"{\"model\":1e999}"},
                                  std::string(100000, '['), std::string{"\xff\xfe"}, std::string{"null"}}) {
    const written_folder folder{text};
    CHECK(tokenizer::open(folder.path()).error().code == protocols::fault::config_invalid);
  }
  const std::string whole = small_tokenizer().dump();
  for (unsigned seed = 0; seed < 300; ++seed) {
    std::mt19937 random(seed);
    std::string text = whole;
    for (int i = 0; i < 4; ++i)
      text[random() % (i % 2 == 0 ? text.size() : 1200)] = static_cast<char>(random());
    const written_folder folder{text};
    CAPTURE(seed);
    if (const auto opened = tokenizer::open(folder.path()))
      CHECK((*opened)->encode("lower <|im_end|>", true).size() <= 16);
    else
      CHECK(opened.error().code == protocols::fault::config_invalid);
  }
}

TEST_CASE("a decoder gives whole code points, however the tokens cut them") {
  gpu::models::incremental_decoder decoder{open(root / "deploy/models/reader")};
  // given the bytes of "aé€😀", one a token
  CHECK(decoder.push('a') == "a");
  CHECK(decoder.push(0xC3) == "");
  CHECK(decoder.push(258) == ""); // special
  CHECK(decoder.push(0xA9) == "é");
  CHECK(decoder.push(0xE2) == "");
  CHECK(decoder.push(0x82) == "");
  CHECK(decoder.push(0xAC) == "€");
  for (int byte : {0xF0, 0x9F, 0x98})
    CHECK(decoder.push(byte) == "");
  CHECK(decoder.push(0x80) == "😀");
  CHECK(decoder.finish() == "");
}

TEST_CASE("bytes that can never become a code point come out as U+FFFD, and what follows is not lost") {
  gpu::models::incremental_decoder decoder{open(root / "deploy/models/reader")};
  CHECK(decoder.push(0xFF) == "\uFFFD");
  CHECK(decoder.push(0x80) == "\uFFFD");
  CHECK(decoder.push(0xE2) == "");
  CHECK(decoder.push('x') == "\uFFFDx");
  CHECK(decoder.push(0xED) == "");
  CHECK(decoder.push(0xA0) == "\uFFFD\uFFFD"); // a surrogate
  CHECK(decoder.push(0xF0) == "");
  CHECK(decoder.push(0x9F) == "");
  CHECK(decoder.finish() == "\uFFFD");
  CHECK(decoder.finish() == "");
}

} // namespace
