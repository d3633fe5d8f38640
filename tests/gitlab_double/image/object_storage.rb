# object_storage.rb: puts, reads and removes an object in every bucket that the configuration names, with its login.

require 'fog/aws'
require 'json'

settings = JSON.parse(File.read('/var/opt/gitlab/configuration.json'))
store = settings['gitlab_rails']['object_store']
registry = settings['registry']['storage']['s3_v2']
connection = Fog::Storage.new(store['connection'].transform_keys(&:to_sym))
of_registry = Fog::Storage.new(
  provider: 'AWS',
  aws_access_key_id: registry['accesskey'],
  aws_secret_access_key: registry['secretkey'],
  region: registry['region'],
  endpoint: registry['regionendpoint'],
  path_style: registry['pathstyle']
)
buckets = store['objects'].values.to_h { |type| [type['bucket'], connection] }
buckets[registry['bucket']] = of_registry

buckets.each do |bucket, storage|
  content = "#{bucket} #{rand}"
  storage.put_object(bucket, 'stand-in/probe', content)
  back = storage.get_object(bucket, 'stand-in/probe').body
  abort "#{bucket}: #{back.inspect} came back" unless back == content
  storage.delete_object(bucket, 'stand-in/probe')
end
puts JSON.generate(buckets.keys.sort)
