# What a script for `gitlab-rails runner -` finds: classes that stand for GitLab's models and Rails' additions.
# Only what is written here is there; anything else fails as Ruby fails. Records are asked for over two pipes.

require 'date'
require 'json'
require 'securerandom'
require 'time'

module ActiveRecord
  class ActiveRecordError < StandardError; end
  class RecordNotFound < ActiveRecordError; end
  class RecordInvalid < ActiveRecordError; end
end

# The process that has the records.
module Records
  READER, WRITER = ENV.fetch('DOUBLE_PIPES').split.zip(%w[r w]).map { |number, mode| IO.new(number.to_i, mode) }
  ENV.delete('DOUBLE_PIPES')

  def self.ask(call, *arguments)
    WRITER.puts(JSON.generate({ call: call, arguments: arguments }))
    WRITER.flush
    said = JSON.parse(READER.gets)
    raise ActiveRecord::RecordInvalid, "Validation failed: #{said['invalid']}" if said.key?('invalid')

    said['value']
  end
end

# Lengths of time, as ActiveSupport has them.
class Integer
  { second: 1, minute: 60, hour: 3600, day: 86_400, week: 604_800, month: 2_629_746, year: 31_556_952 }.each do |unit, length|
    define_method(unit) { Duration.new(self * length) }
    define_method(:"#{unit}s") { Duration.new(self * length) }
  end

  class Duration
    attr_reader :seconds

    def initialize(seconds) = @seconds = seconds
    def from_now = Time.now.utc + @seconds
    def ago = Time.now.utc - @seconds
    alias to_i seconds
  end
end

class Date
  def self.current = Time.now.utc.to_date
end

class Time
  def self.current = Time.now.utc

  # Of days, as ActiveSupport does.
  alias plus +
  def +(other) = plus(other.is_a?(Integer::Duration) ? other.seconds : other)
end

class Object
  def blank? = respond_to?(:empty?) ? empty? : !self
  def present? = !blank?
  def presence = present? ? self : nil
end

# Records that were found, which can be narrowed further.
class Relation
  include Enumerable

  def initialize(kind, found, defaults = {})
    @kind, @found, @defaults = kind, found, defaults
  end

  def each(&block) = @found.each(&block)
  def where(**equal) = Relation.new(@kind, @found.select { |one| one.fits?(equal) }, @defaults.merge(equal))
  def find_by(**equal) = @found.find { |one| one.fits?(equal) }
  def find_by!(**equal) = find_by(**equal) || raise(ActiveRecord::RecordNotFound, "Couldn't find #{@kind}")
  def exists?(**equal) = !find_by(**equal).nil?
  def last = @found.last
  def size = @found.size
  alias length size
  def empty? = @found.empty?
  def any?(&block) = block ? @found.any?(&block) : !empty?

  def order(by)
    name, direction = by.is_a?(Hash) ? by.first : [by, :asc]
    sorted = @found.sort_by { |one| one.public_send(name) }
    Relation.new(@kind, direction.to_s == 'desc' ? sorted.reverse : sorted, @defaults)
  end

  def new(**values) = @kind.new(**@defaults, **values)
  alias build new
  def create!(**values) = new(**values).tap(&:save!)
  def find_each(&block) = each(&block)

  # Scopes of the class, on what is here.
  def active = Relation.new(@kind, @found.select(&:active?), @defaults)
  def admins = Relation.new(@kind, @found.select(&:admin?), @defaults)
end

# What all models have.
class Model
  attr_reader :id

  class << self
    def all = Relation.new(self, Records.ask(self::RECORDS).map { |values| allocate.tap { |one| one.load(values) } })
    def find_by(**equal) = all.find_by(**equal)
    def find_by!(**equal) = all.find_by!(**equal)
    def where(**equal) = all.where(**equal)
    def find(id) = find_by!(id: id)
    def exists?(**equal) = all.exists?(**equal)
    def active = all.active
    def first = all.first
    def last = all.last
    def order(by) = all.order(by)
    def find_each(&block) = all.find_each(&block)
  end

  def fits?(equal)
    equal.all? do |name, wanted|
      wanted = wanted.id if wanted.is_a?(Model)
      name = :user_id if name == :user
      value = public_send(name)
      wanted.is_a?(Array) ? wanted.include?(value) : value == wanted
    end
  end
end

class User < Model
  RECORDS = 'users'.freeze
  READ = %i[username name email state created_at].freeze
  WRITTEN = %i[admin password_expires_at password_automatically_set].freeze

  READ.each { |name| attr_reader name }
  WRITTEN.each do |name|
    attr_reader name
    define_method(:"#{name}=") { |value| change(name, value) }
  end
  %i[password password_confirmation].each { |name| define_method(:"#{name}=") { |value| change(name, value) } }

  def self.find_by_username(name) = find_by(username: name)
  def self.find_by_username!(name) = find_by!(username: name)
  def self.find_by_email(address) = find_by(email: address)
  def self.admins = all.admins

  def load(values)
    (READ + WRITTEN + [:id]).each { |name| instance_variable_set(:"@#{name}", values[name.to_s]) }
    @changes = {}
  end

  def admin? = admin
  def active? = state == 'active'
  def password_automatically_set? = password_automatically_set
  def valid_password?(password) = Records.ask('valid_password', id, password)
  def personal_access_tokens = PersonalAccessToken.where(user_id: id)

  def save!
    moment = @changes[:password_expires_at]
    @changes[:password_expires_at] = moment.utc.iso8601(3) if moment.respond_to?(:utc)
    load(Records.ask('save_user', id, @changes))
    true
  end

  def update!(**values)
    values.each { |name, value| public_send(:"#{name}=", value) }
    save!
  end

  private

  def change(name, value)
    @changes[name] = value
    instance_variable_set(:"@#{name}", value)
  end
end

class PersonalAccessToken < Model
  RECORDS = 'tokens'.freeze
  READ = %i[revoked created_at last_used_at].freeze
  WRITTEN = %i[user_id name description scopes expires_at].freeze
  attr_reader(*READ, *WRITTEN, :token)

  def self.create!(**values) = new(**values).tap(&:save!)

  def self.find_by_token(text)
    found = Records.ask('find_token', text)
    found && allocate.tap { |one| one.load(found) }
  end

  def initialize(**values)
    super()
    @scopes, @revoked = [], false
    values.each { |name, value| public_send(:"#{name}=", value) }
  end

  def load(values)
    (READ + WRITTEN + [:id]).each { |name| instance_variable_set(:"@#{name}", values[name.to_s]) }
    @expires_at &&= Date.iso8601(@expires_at)
  end

  def user=(user)
    @user_id = user.id
  end

  def user = User.find(user_id)
  def scopes=(names)
    @scopes = names.map(&:to_s)
  end

  def expires_at=(moment)
    @expires_at = moment.respond_to?(:to_date) ? moment.to_date : Date.iso8601(moment)
  end

  %i[user_id name description].each { |name| define_method(:"#{name}=") { |value| instance_variable_set(:"@#{name}", value) } }

  def set_token(text) # rubocop:disable Naming/AccessorMethodName
    @token = text
  end

  def revoked? = revoked
  def expired? = !expires_at.nil? && expires_at <= Date.current
  def active? = !revoked? && !expired?

  def save!
    # A new one has a token whether one was set or not.
    @token ||= "glpat-#{SecureRandom.alphanumeric(20)}" if id.nil?
    values = WRITTEN.to_h { |name| [name, public_send(name)] }
    values[:expires_at] = expires_at&.iso8601
    values.merge!(id: id, revoked: revoked) if id
    load(Records.ask('save_token', values, @token))
    true
  end

  def update!(**values)
    values.each { |name, value| public_send(:"#{name}=", value) }
    save!
  end

  def revoke!
    @revoked = true
    save!
  end
end

class ApplicationSetting
  def self.current = @current ||= new

  def update!(**values)
    Records.ask('change_settings', values)
    true
  end

  def method_missing(name, *arguments)
    settings = Records.ask('settings')
    return settings[name.to_s] if arguments.empty? && settings.key?(name.to_s)

    super
  end

  def respond_to_missing?(name, *) = Records.ask('settings').key?(name.to_s)
end

module Gitlab
  module CurrentSettings
    def self.current_application_settings = ApplicationSetting.current
  end
end

script = $stdin.read
begin
  eval(script, TOPLEVEL_BINDING, 'runner') # rubocop:disable Security/Eval
rescue StandardError, NotImplementedError, SyntaxError => e
  warn "#{e.message} (#{e.class})"
  e.backtrace.grep(/\Arunner/).each { |line| warn "  #{line}" }
  exit 1
end
