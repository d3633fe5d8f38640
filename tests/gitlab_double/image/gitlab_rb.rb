# gitlab_rb.rb FILE KEYS [CHANGES]: evaluates FILE as GitLab's package evaluates gitlab.rb and prints what it sets, as
# JSON. Fails on what GitLab does not know. The package itself refuses unknown top-level names only and overlooks a
# typo below them. KEYS lists what a version knows, CHANGES how another version differs from it.

require 'json'

# The keys of a version.
class Keys
  def initialize(list, changes = nil)
    @known = File.read(list).gsub(/^#.*$/, '').gsub(/\n  /, ' ').scan(/^(\w+):(.*)$/).flat_map do |top, below|
      [top, *below.split.map { |key| "#{top}.#{key}" }]
    end.to_h { |key| [key, true] }
    return unless changes

    difference = File.read(changes).gsub(/\n  /, ' ').scan(/^(added|removed):(.*)$/).to_h
    difference['added'].to_s.split.each { |key| @known[key] = true }
    difference['removed'].to_s.split.each { |key| @known.delete(key) }
  end

  def top?(name) = @known.key?(name)

  # Whether a path may be set: itself, or inside something that GitLab passes on as it is.
  def known?(path)
    return true if @known.key?(path.join('.')) || nginx?(path)

    (2...path.length).any? { |length| free?(path.first(length).join('.')) }
  end

  private

  # All parts have the same settings for nginx; the list has those of one, and before 19.3 under another name.
  def nginx?(path)
    path[1] == 'nginx' && path.length > 2 && @known.key?(path.first(2).join('.')) &&
      ['gitlab_rails.nginx', 'nginx'].any? { |section| @known.key?("#{section}.#{path[2]}") }
  end

  def free?(key) = @known.key?(key) && @known.keys.none? { |other| other.start_with?("#{key}.") }
end

# What stands for the package's own object: every section is there and grows as it is written to.
class Configuration
  REMOVED = %w[mattermost mattermost_nginx mattermost_external_url spamcheck].freeze

  attr_reader :settings

  def initialize(keys)
    @keys = keys
    @settings = Hash.new { |hash, key| hash[key] = section }
  end

  def from_file(path) = instance_eval(File.read(path), path)

  def method_missing(name, *arguments)
    key = name.to_s.delete_suffix('=')
    abort "gitlab.rb: #{key} is no setting of GitLab" unless @keys.top?(key)
    abort "gitlab.rb: Removed configurations found in gitlab.rb: #{key}" if REMOVED.include?(key)
    arguments.empty? ? @settings[key] : @settings[key] = arguments.first
  end

  def respond_to_missing?(*) = true

  def unknown = paths(@settings).reject { |path| @keys.known?(path) }.map { |path| path.join('.') }

  private

  def section = Hash.new { |hash, key| hash[key] = section }

  # Every path to a value that is not itself a non-empty mapping.
  def paths(value, above = [])
    return [above] unless value.is_a?(Hash) && !value.empty?

    value.flat_map { |key, below| paths(below, [*above, key.to_s]) }
  end
end

file, list, changes = ARGV
configuration = Configuration.new(Keys.new(list, changes))
configuration.from_file(file)
unknown = configuration.unknown
abort "gitlab.rb: GitLab does not know #{unknown.join(', ')}" unless unknown.empty?
puts JSON.pretty_generate(configuration.settings)
