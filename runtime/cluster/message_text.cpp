#include "runtime/cluster/message_text.hpp"

#include <charconv>
#include <limits>
#include <string>

#include <fmt/format.h>

#include "protocols/codec.hpp"
#include "protocols/serve_message.hpp"
#include "runtime/cluster/json_text.hpp"

namespace troupe::cluster {

using namespace protocols;

namespace {

/// Walks a message's fields as the codec does, and takes each from the next element of a list.
class list_reader {
public:
  explicit list_reader(const json_node& list) : list_(list) {
    if (list.kind != json_kind::list)
      problem_ = fmt::format("a message's fields are a list, not {}", describe(list));
  }

  template <class... Fields>
  void required(Fields&... values) {
    (take(values), ...);
  }
  template <class... Fields>
  void appended(Fields&... values) {
    (take_if_there(values), ...);
  }

  std::string verdict() const {
    if (problem_.empty() && next_ < list_.elements.size())
      return fmt::format("{} fields, not {}", next_, list_.elements.size());
    return problem_;
  }

private:
  template <class T>
  void take(T& value) {
    if (!problem_.empty())
      return;
    if (next_ == list_.elements.size())
      problem_ = fmt::format("field {} is missing", next_ + 1);
    else
      read(list_.elements[next_++], value);
  }
  template <class T>
  void take_if_there(T& value) {
    if (next_ < list_.elements.size())
      take(value);
  }

  void wrong(const json_node& node, std::string_view expected) {
    problem_ = fmt::format("field {} is {}, not {}", next_, expected, describe(node));
  }

  template <class T>
  void read_number(const json_node& node, T& value) {
    const auto* const end = node.text.data() + node.text.size();
    const bool is_number = node.kind == json_kind::whole || node.kind == json_kind::real;
    if (const auto got = std::from_chars(node.text.data(), end, value);
        !is_number || got.ec != std::errc{} || got.ptr != end)
      wrong(node, "a number that fits");
  }

  template <class T>
  void read(const json_node& node, T& value) {
    if constexpr (std::is_same_v<T, bool>) {
      node.kind == json_kind::truth ? void(value = node.truth) : wrong(node, "true or false");
    } else if constexpr (std::is_same_v<T, std::string>) {
      node.kind == json_kind::text ? void(value = node.text) : wrong(node, "a text");
    } else if constexpr (std::is_enum_v<T>) {
      std::underlying_type_t<T> number{};
      read_number(node, number);
      value = static_cast<T>(number); // what has no meaning is for the receiver to find
    } else if constexpr (std::is_arithmetic_v<T>) {
      read_number(node, value);
    } else if constexpr (detail::is_strong_id<T>::value) {
      read_number(node, value.value);
    } else if constexpr (detail::is_vector<T>::value || detail::is_array<T>::value) {
      if (node.kind != json_kind::list)
        return wrong(node, "a list");
      if constexpr (detail::is_vector<T>::value)
        value.resize(node.elements.size());
      if (value.size() != node.elements.size())
        return wrong(node, fmt::format("a list of {}", value.size()));
      for (std::size_t i = 0; i < value.size(); ++i)
        read(node.elements[i], value[i]);
    } else {
      list_reader part{node};
      T::fields(value, part);
      if (const auto problem = part.verdict(); !problem.empty() && problem_.empty())
        problem_ = fmt::format("in field {}: {}", next_, problem);
    }
  }

  const json_node& list_;
  std::size_t next_ = 0;
  std::string problem_;
};

template <class... Messages>
result<std::vector<std::byte>> encode_one_of(message_type type, const json_node& fields, std::variant<Messages...>*) {
  std::vector<std::byte> bytes;
  std::string problem = fmt::format("{} does not go between role actors", name(type));
  const auto encode_as = [&]<class Message>(Message message) {
    list_reader reader{fields};
    Message::fields(message, reader);
    problem = reader.verdict();
    if (problem.empty())
      encode_payload(message, bytes);
    return true;
  };
  (void)((Messages::type == type && encode_as(Messages{})) || ...);
  if (!problem.empty())
    return fail(fault::invalid_request, fmt::format("{}: {}", name(type), problem));
  return bytes;
}

} // namespace

result<std::vector<std::byte>> payload_of_text(message_type type, std::string_view fields) {
  const auto tree = read_json(fields);
  if (!tree)
    return fail(fault::config_invalid, fmt::format("fields:{}", tree.error().what));
  return encode_one_of(type, *tree, static_cast<serve_message*>(nullptr));
}

} // namespace troupe::cluster
